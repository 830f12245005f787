//! Tokens at a running instance: whose are taken, what they open, when they end; and how many events
//! a key may publish.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tidings_adapter::jwt::{Algorithm, SigningKey};

use crate::common::{Answer, Server, open, send, start};

const SECRET: &str = "a shared secret of 32 bytes or more";
const ANOTHER: &str = "a secret that nobody here has heard of";

/// An instance with two issuers, and the key of the second.
async fn issuers(more: &str) -> (Server, SigningKey, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("keys.json");
    let (key, _) = SigningKey::generate(Algorithm::Es256).expect("made");
    publish_keys(&path, &[&key]);
    let config = format!(
        "[[issuers]]\nname = \"shared\"\nissuer = \"shared\"\naudience = [\"hub\"]\n\
         algorithms = [\"HS256\"]\nsecret = \"{SECRET}\"\nleeway = \"2s\"\n\
         publish = [\"tenant/{{sub}}/**\", \"all/*\"]\nread = [\"tenant/{{sub}}/**\", \"org/{{claim:org}}\"]\n{more}\n\
         [[issuers]]\nname = \"signed\"\nissuer = \"signed\"\nalgorithms = [\"ES256\"]\n\
         jwks_file = \"{}\"\nread = [\"**\"]\n",
        path.display()
    );
    (start(&config).await, key, folder)
}

fn publish_keys(path: &std::path::Path, keys: &[&SigningKey]) {
    let keys: Vec<Value> = keys
        .iter()
        .map(|key| key.public_jwk().expect("public"))
        .collect();
    let next = path.with_extension("next");
    std::fs::write(&next, json!({ "keys": keys }).to_string()).expect("written");
    std::fs::rename(next, path).expect("renamed");
}

fn now_s(server: &Server) -> u64 {
    server.instance.hub().now().unix_ms / 1000
}

/// A token of the first issuer, with these claims over good ones; `null` takes one away.
fn token(server: &Server, change: &Value) -> String {
    signed_with(&secret(SECRET), server, "shared", change)
}

fn secret(text: &str) -> SigningKey {
    SigningKey::secret(text.as_bytes()).expect("long enough")
}

fn signed_with(key: &SigningKey, server: &Server, issuer: &str, change: &Value) -> String {
    let now = now_s(server);
    let mut claims = json!({"iss": issuer, "aud": "hub", "sub": "a", "exp": now + 60, "iat": now});
    let claims_of = claims.as_object_mut().expect("an object");
    for (name, value) in change.as_object().expect("an object") {
        match value {
            Value::Null => claims_of.remove(name),
            value => claims_of.insert(name.clone(), value.clone()),
        };
    }
    key.sign(&claims, key.kid().as_deref()).expect("signed")
}

async fn read(server: &Server, token: &str, topic: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let path = format!("/v1/topics/{topic}");
    send(
        server.address,
        "GET",
        &path,
        &[("authorization", &bearer)],
        "",
    )
    .await
}

async fn publish(server: &Server, token: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    send(server.address, "POST", "/v1/events", &headers, body).await
}

fn event(topic: &str) -> String {
    json!({"topic": topic, "type": "t"}).to_string()
}

/// A status, or a problem's slug.
fn outcome(answer: &Answer) -> String {
    match answer.status.as_u16() {
        200 | 201 => answer.status.as_str().to_owned(),
        _ => answer.problem(),
    }
}

#[tokio::test]
async fn a_good_token_opens_its_tenant_and_no_other() {
    let (server, _, _folder) = issuers("").await;
    let alice = token(&server, &json!({"org": 7}));
    assert_eq!(
        outcome(&publish(&server, &alice, &event("tenant/a/x")).await),
        "201"
    );
    let table = [
        ("tenant/a/x", "200"),
        ("tenant/a/x/y", "200"),
        ("org/7", "200"),
        ("tenant/b/x", "forbidden"),
        ("tenant/a", "forbidden"),
        ("org/8", "forbidden"),
        ("all/x", "forbidden"),
    ];
    for (topic, expected) in table {
        assert_eq!(
            outcome(&read(&server, &alice, topic).await),
            expected,
            "{topic}"
        );
    }
    for (topic, expected) in [
        ("all/x", "201"),
        ("tenant/b/x", "forbidden"),
        ("org/7", "forbidden"),
    ] {
        let answer = publish(&server, &alice, &event(topic)).await;
        assert_eq!(outcome(&answer), expected, "{topic}");
    }
    // Values that would reach further open nothing.
    for sub in ["*", "**", "b/x", "a/../b", "..", ""] {
        let token = token(&server, &json!({"sub": sub}));
        for topic in ["tenant/a/x", "tenant/b/x", "tenant/x"] {
            assert_eq!(
                outcome(&read(&server, &token, topic).await),
                "forbidden",
                "{sub}"
            );
        }
    }
    // As in a header, so in the query.
    let path = format!("/v1/topics/tenant/a/x?access_token={alice}");
    assert_eq!(
        send(server.address, "GET", &path, &[], "").await.status,
        200
    );
}

#[tokio::test]
async fn a_token_narrows_its_rights_and_never_widens_them() {
    let (server, _, _folder) = issuers("").await;
    let with = |rights: Value| token(&server, &json!({"tidings": rights}));
    let wide = with(json!({"publish": ["**"], "read": ["**"]}));
    assert_eq!(outcome(&read(&server, &wide, "tenant/a/x").await), "200");
    assert_eq!(
        outcome(&read(&server, &wide, "tenant/b/x").await),
        "forbidden"
    );
    assert_eq!(
        outcome(&publish(&server, &wide, &event("tenant/b/x")).await),
        "forbidden"
    );
    let narrow = with(json!({"read": ["tenant/a/x", "tenant/b/x"]}));
    assert_eq!(outcome(&read(&server, &narrow, "tenant/a/x").await), "200");
    assert_eq!(
        outcome(&read(&server, &narrow, "tenant/a/y").await),
        "forbidden"
    );
    assert_eq!(
        outcome(&read(&server, &narrow, "tenant/b/x").await),
        "forbidden"
    );
    assert_eq!(
        outcome(&publish(&server, &narrow, &event("tenant/a/x")).await),
        "forbidden"
    );
    for wrong in [
        json!("**"),
        json!(["**"]),
        json!({"read": "**"}),
        json!({"read": ["a**"]}),
        json!({"read": [7]}),
        json!({"read": vec!["a"; 101]}),
    ] {
        let answer = read(&server, &with(wrong), "tenant/a/x").await;
        assert_eq!(outcome(&answer), "invalid-token");
    }
}

#[tokio::test]
async fn a_bad_token_is_refused_with_its_reason() {
    let (server, key, _folder) = issuers("").await;
    let now = now_s(&server);
    let es256 = |change: &Value| signed_with(&key, &server, "signed", change);
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({"iss": "signed", "exp": now + 60});
    let none = format!("{}.{}.", part(json!({"alg": "none"})), part(claims.clone()));
    let point = key.public_jwk().expect("public").to_string();
    let kid = key.kid();
    // The public key as a secret, under the name of that key.
    let confused = secret(&point)
        .sign(&claims, kid.as_deref())
        .expect("signed");
    let (stranger, _) = SigningKey::generate(Algorithm::Es256).expect("made");
    let foreign = stranger.sign(&claims, kid.as_deref()).expect("signed");
    let unknown = signed_with(&stranger, &server, "signed", &json!({}));
    let good = token(&server, &json!({}));
    let tampered = good.replacen('.', ".e", 1);
    let claim = |name: &str| format!("claim `{name}`");
    let table = [
        (
            token(&server, &json!({"exp": now - 2})),
            "token-expired",
            "expired".to_owned(),
        ),
        (
            token(&server, &json!({"exp": now - 1})),
            "200",
            String::new(),
        ),
        (
            token(&server, &json!({"exp": null})),
            "invalid-token",
            claim("exp"),
        ),
        (
            token(&server, &json!({"nbf": now + 10})),
            "invalid-token",
            "not valid yet".to_owned(),
        ),
        (
            token(&server, &json!({"iat": now + 10})),
            "invalid-token",
            "not valid yet".to_owned(),
        ),
        (
            token(&server, &json!({"aud": "other"})),
            "invalid-token",
            claim("aud"),
        ),
        (
            token(&server, &json!({"aud": null})),
            "invalid-token",
            claim("aud"),
        ),
        (
            token(&server, &json!({"iss": "other"})),
            "invalid-token",
            "issuer is not known".to_owned(),
        ),
        (
            token(&server, &json!({"iss": null})),
            "invalid-token",
            "issuer is not known".to_owned(),
        ),
        // One issuer's key does not speak for the other.
        (
            token(&server, &json!({"iss": "signed"})),
            "invalid-token",
            "algorithm".to_owned(),
        ),
        (
            es256(&json!({"iss": "shared"})),
            "invalid-token",
            "algorithm".to_owned(),
        ),
        (none, "invalid-token", "algorithm".to_owned()),
        (confused, "invalid-token", "algorithm".to_owned()),
        (foreign, "invalid-token", "signature".to_owned()),
        (unknown, "invalid-token", "key is not known".to_owned()),
        (
            signed_with(&secret(ANOTHER), &server, "shared", &json!({})),
            "invalid-token",
            "signature".to_owned(),
        ),
        (tampered, "invalid-token", "malformed".to_owned()),
        (
            "eyJ.eyJ.x".to_owned(),
            "invalid-token",
            "malformed".to_owned(),
        ),
        // What does not look like a token is a key that nobody has.
        (
            "a.b.c".to_owned(),
            "unauthenticated",
            "invalid_token".to_owned(),
        ),
    ];
    for (at, (token, expected, reason)) in table.iter().enumerate() {
        let answer = read(&server, token, "tenant/a/x").await;
        assert_eq!(outcome(&answer), *expected, "{at}: {}", answer.text());
        if *expected == "200" {
            continue;
        }
        assert_eq!(answer.status, 401);
        let challenge = answer.header("www-authenticate");
        assert!(challenge.starts_with("Bearer realm=\"tidings\", error=\"invalid_token\""));
        assert!(challenge.contains(reason.as_str()), "{at}: {challenge}");
        assert!(!answer.text().contains(token.as_str()), "{at}");
    }
    assert_eq!(server.refused("token-expired"), 1);
    assert!(server.refused("invalid-token") > 10);
}

#[tokio::test]
async fn keys_rotate_while_the_instance_runs() {
    let (server, old, folder) = issuers("").await;
    let (new, _) = SigningKey::generate(Algorithm::Es256).expect("made");
    let token = |key: &SigningKey| signed_with(key, &server, "signed", &json!({}));
    assert_eq!(outcome(&read(&server, &token(&old), "x").await), "200");
    assert_eq!(
        outcome(&read(&server, &token(&new), "x").await),
        "invalid-token"
    );
    publish_keys(&folder.path().join("keys.json"), &[&new]);
    let rotated = async {
        while outcome(&read(&server, &token(&new), "x").await) != "200" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let in_time = tokio::time::timeout(crate::common::SOON, rotated).await;
    in_time.expect("the new key is taken");
    assert_eq!(
        outcome(&read(&server, &token(&old), "x").await),
        "invalid-token"
    );
}

#[tokio::test]
async fn an_issuer_that_is_away_is_no_fault_of_the_token() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = nobody.local_addr().expect("bound");
    drop(nobody);
    let config = format!(
        "[[issuers]]\nname = \"away\"\nissuer = \"away\"\naudience = [\"hub\"]\nalgorithms = [\"ES256\"]\n\
         jwks_url = \"http://{address}/keys\"\nread = [\"**\"]\n"
    );
    let server = start(&config).await;
    let (key, _) = SigningKey::generate(Algorithm::Es256).expect("made");
    let token = signed_with(&key, &server, "away", &json!({}));
    let answer = read(&server, &token, "x").await;
    assert_eq!(outcome(&answer), "issuer-unavailable");
    assert!(answer.headers.contains_key("retry-after"));
    // Keys of the hub's own work as ever.
    assert_eq!(server.get("/v1/topics/x").await.status, 200);
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    use http_body_util::BodyExt as _;
    let (server, _, _folder) = issuers("").await;
    for path in [
        "/v1/events?topic=tenant/a/x",
        "/v1/topics/tenant/a/x?offset=now&live=sse",
        "/v1/topics/tenant/a/x?offset=now&live=long-poll",
    ] {
        // Two seconds of leeway: good for one more.
        let ending = token(&server, &json!({"exp": now_s(&server) - 1}));
        let bearer = format!("Bearer {ending}");
        let headers = [("authorization", bearer.as_str())];
        let reading = async {
            let response = open(server.address, "GET", path, &headers, "").await;
            assert!(response.status().is_success(), "{path}");
            response.into_body().collect().await.expect("in order");
        };
        let passing = async {
            // The instance's clock moves while the stream is open.
            tokio::time::sleep(Duration::from_millis(500)).await;
            server.clock.advance(Duration::from_secs(2));
        };
        let both = futures_util::future::join(reading, passing);
        let ended = tokio::time::timeout(crate::common::SOON, both).await;
        ended.expect("it ends");
        let again = open(server.address, "GET", path, &headers, "").await;
        assert_eq!(again.status(), 401, "{path}");
    }
}

#[tokio::test]
async fn a_rate_holds_for_each_subject_and_key_alone() {
    let (server, _, _folder) = issuers("publish_per_second = 1\nburst = 3\n").await;
    let (alice, bob) = (
        token(&server, &json!({})),
        token(&server, &json!({"sub": "b"})),
    );
    let three = json!(
        ["a/1", "a/2", "a/3"].map(|end| json!({"topic": format!("tenant/{end}"), "type": "t"}))
    );
    assert_eq!(
        outcome(&publish(&server, &alice, &three.to_string()).await),
        "201"
    );
    let refused = publish(&server, &alice, &event("tenant/a/4")).await;
    assert_eq!(outcome(&refused), "rate-limited");
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(
        outcome(&publish(&server, &bob, &event("tenant/b/1")).await),
        "201"
    );
    assert_eq!(
        outcome(&publish(&server, crate::common::KEY, &event("tenant/a/5")).await),
        "201"
    );
    // Reading costs nothing, and nothing refused was stored.
    let held = read(&server, &alice, "tenant/a/4").await;
    assert_eq!(held.json(), json!([]));
    assert_eq!(server.refused("rate-limited"), 1);
    // Line by line the first line too many ends it, and says what is stored.
    let lines: String = (0..5).map(|_| event("tenant/b/2") + "\n").collect();
    let bearer = format!("Bearer {bob}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/x-ndjson"),
    ];
    let answer = send(server.address, "POST", "/v1/events", &headers, &lines).await;
    assert_eq!(outcome(&answer), "rate-limited");
    assert_eq!(
        answer.json()["stored_count"],
        answer.json()["line"].as_u64().expect("a line") - 1
    );
    // The same for keys.
    for (key, times, expected) in [
        ("slow", 2, "201"),
        ("slow", 1, "rate-limited"),
        (crate::common::SMALL_KEY, 10, "201"),
        ("slow", 1, "rate-limited"),
    ] {
        for _ in 0..times {
            let answer = publish(&server, key, &event("small/a")).await;
            assert_eq!(outcome(&answer), expected, "{key}");
        }
    }
}

#[tokio::test]
async fn tokens_are_never_logged() {
    let (server, key, _folder) = issuers("").await;
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer({
            let lines = lines.clone();
            move || lines.clone()
        })
        .finish();
    // This test's runtime has one thread: what the instance says is said here.
    let _guard = tracing::subscriber::set_default(subscriber);
    let tokens = [
        token(&server, &json!({"sub": "hidden-subject"})),
        token(&server, &json!({"exp": 1})),
        signed_with(&secret(ANOTHER), &server, "shared", &json!({})),
        signed_with(&key, &server, "signed", &json!({"sub": "hidden-subject"})),
        "eyJhbGciOi.bad.token".to_owned(),
    ];
    for token in &tokens {
        let _ = read(&server, token, "tenant/a/x").await;
        let path = format!("/v1/topics/tenant/a/x?access_token={token}");
        let _ = send(server.address, "GET", &path, &[], "").await;
        let _ = publish(&server, token, &event("tenant/a/x")).await;
    }
    let logged = lines.text();
    assert!(logged.contains("a token was refused"), "{logged}");
    for hidden in tokens
        .iter()
        .map(String::as_str)
        .chain([SECRET, "hidden-subject"])
    {
        assert!(!logged.contains(hidden), "{hidden} in {logged}");
    }
}

#[derive(Clone, Default)]
struct Lines(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("unpoisoned")).into_owned()
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("unpoisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
