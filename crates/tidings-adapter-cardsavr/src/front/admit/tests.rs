//! Tables of signatures, nonces, bodies.

use tidings_adapter::axum::http::Request;

use super::*;
use crate::crypto::{authorization, envelope};
use crate::options::CardsavrOptions;

const NOW: u64 = 1_700_000_000_000;

fn key() -> Key {
    Key::padded(b"a key of the tests")
}

/// The head of a request for `target` whose signature is over `signed` and `body`.
fn head(target: &str, signed: &str, nonce: &str, body: &[u8]) -> Parts {
    let authorization = authorization("acme-app");
    let signature = Signed {
        target: signed,
        authorization: &authorization,
        nonce,
        body,
    }
    .sign(&key());
    Request::post(target)
        .header("x-cardsavr-authorization", authorization)
        .header("x-cardsavr-nonce", nonce)
        .header("x-cardsavr-signature", signature)
        .body(())
        .expect("a request")
        .into_parts()
        .0
}

fn target_of(head: &Parts, body: &[u8], key: &Key) -> Option<String> {
    let signature = signature(&head.headers)?.ok()?;
    signature.verify(head, body, key)
}

#[test]
fn paths_as_clients_sign_them() {
    for (target, signed, good) in [
        ("/a?q=a%20b", "/a?q=a b", true),
        ("/a?q=a%20b", "/a?q=a%20b", true),
        ("/a?q=%zz", "/a?q=%zz", true),
        ("/a/?", "/a/", true),
        ("/a/?", "/a/?", true),
        ("/a/", "/a", false),
        ("/a?q=1", "/a", false),
        ("/a", "/b", false),
    ] {
        let head = head(target, signed, "1", b"x");
        let found = target_of(&head, b"x", &key());
        assert_eq!(
            found.as_deref(),
            good.then_some(signed),
            "{target} {signed}"
        );
        assert_eq!(target_of(&head, b"y", &key()), None);
        assert_eq!(target_of(&head, b"x", &Key::padded(b"another")), None);
    }
}

/// Nothing stands between what is signed: a recorded GET whose nonce's end is sent as its body, and a
/// reply that is sent back.
#[test]
fn a_recorded_request_stays_as_old_as_it_is() {
    let nonce = "1699999699999";
    for cut in 1..nonce.len() {
        let mut recorded = head("/a", "/a", nonce, b"");
        recorded.method = Method::GET;
        assert!(target_of(&recorded, b"", &key()).is_some());
        let (short, rest) = nonce.split_at(cut);
        let nonce = short.parse().expect("a value");
        recorded.headers.insert("x-cardsavr-nonce", nonce);
        assert_eq!(target_of(&recorded, rest.as_bytes(), &key()), None);
        // Elsewhere such a body is nothing that could be opened.
        recorded.method = Method::PUT;
        assert!(target_of(&recorded, rest.as_bytes(), &key()).is_some());
        assert_eq!(opened(&Method::PUT, rest), Err(StatusCode::BAD_REQUEST));
    }
    let settings = Settings::of(&CardsavrOptions::default()).expect("good");
    let mut headers = HeaderMap::new();
    let Voice::Sealed(seal) = sealed_voice(&key()) else {
        panic!("it is sealed")
    };
    for said in [None, Some(&serde_json::json!([]))] {
        let body = seal.say(said, NOW, &mut headers).expect("sealed");
        let mut reflected = head("/a", "/a", "1", b"");
        reflected.headers.extend(headers.clone());
        assert!(target_of(&reflected, body.as_bytes(), &key()).is_some());
        let admitted = verified(&reflected, body.as_bytes(), &key(), &settings, NOW);
        assert!(admitted.is_none());
    }
}

#[test]
fn headers_of_a_signature() {
    let good = head("/a", "/a", "1", b"");
    assert!(matches!(signature(&good.headers), Some(Ok(found)) if found.app == "acme-app"));
    assert!(signature(&HeaderMap::new()).is_none());
    for (name, value) in [
        ("x-cardsavr-authorization", "Basic abc"),
        ("x-cardsavr-authorization", ""),
        ("x-cardsavr-nonce", ""),
        ("x-cardsavr-signature", ""),
    ] {
        let mut headers = good.headers.clone();
        headers.insert(name, value.parse().expect("a value"));
        assert!(matches!(signature(&headers), Some(Err(_))), "{name}");
    }
    let mut bytes = good.headers.clone();
    let odd = tidings_adapter::http::HeaderValue::from_bytes(b"SWCH-HMAC-SHA256 Credentials=\xff");
    bytes.insert("x-cardsavr-authorization", odd.expect("a value"));
    assert!(matches!(signature(&bytes), Some(Err(_))));
}

#[test]
fn nonces() {
    let strict = Settings::of(&CardsavrOptions::default()).expect("good");
    let mut off = Settings::of(&CardsavrOptions::default()).expect("good");
    off.nonce_window = std::time::Duration::ZERO;
    for (nonce, in_window, at_all) in [
        ("1700000000000", true, true),
        ("1699999700000", true, true),
        ("1699999699999", false, true),
        ("1700000300000", true, true),
        ("1700000300001", false, true),
        ("1613600000000", false, true),
        ("999", true, true),
        ("0", true, true),
        // Of a reply.
        ("01700000000000", false, false),
        ("00", false, false),
        ("999999999999", true, true),
        ("1000000000000", false, true),
        ("18446744073709551615", false, true),
        ("18446744073709551616", false, false),
        ("-1", false, false),
        ("+1700000000000", false, false),
        ("1700000000000.5", false, false),
        ("now", false, false),
    ] {
        let signature = Signature {
            authorization: "",
            app: "",
            nonce,
            signature: "",
        };
        assert_eq!(signature.is_timely(&strict, NOW), in_window, "{nonce}");
        assert_eq!(signature.is_timely(&off, NOW), at_all, "{nonce}");
    }
}

fn sealed_voice(key: &Key) -> Voice {
    Voice::Sealed(Box::new(Seal {
        key: key.clone(),
        sealing: Sealing::Cbc,
        target: "/a".into(),
        authorization: authorization("acme-app"),
    }))
}

fn opened(method: &Method, body: &str) -> Result<(Value, Sealing), StatusCode> {
    let body = Bytes::copy_from_slice(body.as_bytes());
    match sealed_voice(&key()).open(method, &body) {
        Ok((clear, voice)) => Ok((clear, voice.sealing())),
        Err((_, refused)) => Err(refused.status),
    }
}

#[test]
fn bodies() {
    let seal = |sealing: Sealing, key: &Key, text: &str| {
        envelope(&sealing.seal(key, text.as_bytes(), [7; 16]).expect("sealed"))
    };
    let post = &Method::POST;
    let clear = serde_json::json!({"a": 1});
    for sealing in [Sealing::Cbc, Sealing::Gcm] {
        let body = seal(sealing, &key(), r#"{"a":1}"#);
        assert_eq!(opened(post, &body), Ok((clear.clone(), sealing)), "in kind");
        let foreign = seal(Sealing::Gcm, &Key::padded(b"another"), r#"{"a":1}"#);
        assert_eq!(opened(post, &foreign), Err(StatusCode::UNAUTHORIZED));
        let broken = seal(sealing, &key(), "{\"a\":");
        assert_eq!(opened(post, &broken), Err(StatusCode::BAD_REQUEST));
        let empty = seal(sealing, &key(), "");
        assert_eq!(opened(post, &empty), Ok((Value::Null, sealing)));
    }
    assert_eq!(opened(post, ""), Ok((Value::Null, Sealing::Cbc)));
    assert_eq!(
        opened(&Method::GET, "anything"),
        Ok((Value::Null, Sealing::Cbc))
    );
    for bad in [
        "{}",
        "[",
        r#"{"a":1}"#,
        r#"{"encrypted_body":null}"#,
        r#"{"encrypted_body":""}"#,
        r#"{"encrypted_body":"AAAA$AAAA"}"#,
        r#"{"encrypted_body":"9oEP6qALzVxk2F3FPmkMhw=="}"#,
        r#"{"encrypted_body":"9oEP6qALzVxk2F3FPmkMhw$AwMDAwMDAwMDAwMDAwMDAw=="}"#,
        r#"{"encrypted_body":"9oEP6qALzVxk2F3FPmkMhw==$AwMDAwMDAwMDAwMD"}"#,
    ] {
        assert_eq!(opened(post, bad), Err(StatusCode::BAD_REQUEST), "{bad}");
    }
    // Padding and signature are refused in the same words.
    let padding = r#"{"encrypted_body":"9oEP6qALzVxk2F3FPmkMhw==$AwMDAwMDAwMDAwMDAwMDAw=="}"#;
    let body = Bytes::from_static(padding.as_bytes());
    match sealed_voice(&key()).open(post, &body) {
        Err((_, refused)) => assert_eq!(refused, Refused::unauthorized(NOT_SIGNED)),
        Ok(_) => panic!("it opens"),
    }
}

#[test]
fn cookies() {
    let with = |text: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, text.parse().expect("a value"));
        headers
    };
    for (text, found) in [
        ("cardsavr_session=abc", Some("abc")),
        ("a=b; cardsavr_session=abc; c=d", Some("abc")),
        ("xcardsavr_session=abc", None),
        ("cardsavr_session", None),
        (";;=;", None),
    ] {
        assert_eq!(cookie(&with(text)), found, "{text}");
    }
}

#[test]
fn hostile_headers_are_only_noted() {
    let mut headers = HeaderMap::new();
    let long = "x".repeat(10_000);
    headers.insert("x-cardsavr-trace", long.parse().expect("a value"));
    note(&headers);
    let odd = tidings_adapter::http::HeaderValue::from_bytes(b"{\xff\xfe");
    headers.insert("x-cardsavr-trace", odd.expect("a value"));
    note(&headers);
}
