//! Who somebody says to be: `Authorization`, or the query of an `EventSource`.

use std::sync::OnceLock;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::{HeaderValue, Request, header};
use tidings_core::Now;
use tidings_server::auth::{Keyring, Who};
use tidings_server::config::{Sources, load};

/// The key that opens something.
const KEY: &str = "open";

fn keyring() -> &'static Keyring {
    static KEYRING: OnceLock<Keyring> = OnceLock::new();
    KEYRING.get_or_init(|| {
        let keys = format!("[{{name=\"fuzz\",key=\"{KEY}\",read=[\"**\"]}}]");
        let sources = Sources {
            environment: vec![("TIDINGS_KEYS".to_owned(), keys)],
            ..Sources::default()
        };
        let config = load(&sources).expect("it fits").config;
        Keyring::new(&config).expect("it has no issuer")
    })
}

/// The first line is the header (none when empty), the rest the query.
pub fn credentials(input: &[u8]) {
    let (line, query) = crate::first_line(input);
    let mut request = Request::builder().uri(format!("/?{}", String::from_utf8_lossy(query)));
    if !line.is_empty() {
        let Ok(value) = HeaderValue::from_bytes(line) else {
            return;
        };
        request = request.header(header::AUTHORIZATION, value);
    }
    let Ok(request) = request.body(()) else {
        return;
    };
    let (parts, ()) = request.into_parts();
    let now = Now {
        uptime: Duration::ZERO,
        unix_ms: 0,
    };
    let who = keyring().identify(&parts, now).now_or_never();
    match who.expect("there is no issuer to wait for") {
        Ok(rights) if rights.who == Who::Anybody => {
            assert!(line.is_empty(), "a wrong key is not no key");
        }
        Ok(_) => {
            let sent = input.windows(KEY.len()).any(|part| part == KEY.as_bytes());
            let encoded = query.contains(&b'%');
            assert!(sent || encoded, "nobody has the key without sending it");
        }
        Err(problem) => assert_eq!(problem.cause.status(), 401),
    }
}
