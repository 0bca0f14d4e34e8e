//! The status page: three files that load nothing from other hosts.

use crate::http::{ContentKind, HttpResponse};

/// The file of the page at a path.
pub(super) fn file(path: &str) -> Option<HttpResponse> {
    let (kind, text) = match path {
        "/" => (ContentKind::Html, include_str!("page/index.html")),
        "/page.css" => (ContentKind::Css, include_str!("page/page.css")),
        "/page.js" => (ContentKind::JavaScript, include_str!("page/page.js")),
        "/icon.svg" => (ContentKind::Svg, include_str!("page/icon.svg")),
        _ => return None,
    };
    Some(HttpResponse::ok(kind, text))
}
