use chopar::http::{HttpMethod, HttpRefusal, HttpRequest, HttpResponse, RequestReader};

/// A client's request for a page. It is read the same however it is split, within bounds, and its names are valid.
pub fn http_request(data: &[u8]) {
    let (at, data) = match data {
        [at, rest @ ..] => (usize::from(*at), rest),
        [] => return,
    };
    let fresh = || match at % 2 {
        0 => RequestReader::default(),
        _ => RequestReader::with_posts(),
    };
    let once = fresh().read(data);
    let mut reader = fresh();
    let (front, behind) = data.split_at(at.min(data.len()));
    let cut = match reader.read(front) {
        Ok(None) => reader.read(behind),
        other => other,
    };
    assert_eq!(once, cut);
    match once {
        Ok(Some(request)) => {
            assert!(request.method != HttpMethod::Post || at % 2 == 1);
            hold(&request);
        }
        Ok(None) => {}
        Err(refusal) => answer(refusal),
    }
}

fn hold(request: &HttpRequest) {
    assert!(
        request.path.starts_with('/') && request.path.bytes().all(|byte| byte.is_ascii_graphic())
    );
    assert!(!request.path.contains('?') && !request.path.contains('#'));
    if let Some(host) = &request.host {
        assert!(
            host.bytes()
                .all(|byte| !byte.is_ascii_uppercase() && byte.is_ascii_graphic())
        );
    }
}

fn answer(refusal: HttpRefusal) {
    let (status, _) = refusal.status();
    let response = HttpResponse::refused(refusal);
    assert!((400..600).contains(&status) && response.status() == status);
}
