//! The status page: three files that load nothing from elsewhere.

use crate::http::{Kind, Response};

/// The file of the page at a path.
pub(super) fn file(path: &str) -> Option<Response> {
    let (kind, text) = match path {
        "/" => (Kind::Html, include_str!("page/index.html")),
        "/page.css" => (Kind::Css, include_str!("page/page.css")),
        "/page.js" => (Kind::JavaScript, include_str!("page/page.js")),
        "/icon.svg" => (Kind::Svg, include_str!("page/icon.svg")),
        _ => return None,
    };
    Some(Response::ok(kind, text))
}
