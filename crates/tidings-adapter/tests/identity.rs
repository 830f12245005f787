//! Keys of an issuer over a real HTTP server, and the client that fetches them: rotation, floors,
//! servers that are away, too large, too slow or not what they should be.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tidings_adapter::axum::extract::State;
use tidings_adapter::axum::response::{IntoResponse as _, Response};
use tidings_adapter::axum::{self, Router};
use tidings_adapter::http::{StatusCode, Uri};
use tidings_adapter::jwt::{
    Algorithm, Checks, Claims, KeySet, KeySetOptions, KeySource, SigningKey, TokenError, Verifier,
};
use tidings_adapter::outside::{Call, Outside, OutsideError, OutsideOptions};
use tokio::net::TcpListener;

/// Long enough for two busy cores; nothing waits for it to pass.
const SOON: Duration = Duration::from_secs(20);
const NOW_MS: u64 = 1_700_000_000_000;

/// An issuer: what it answers, and how often it was asked.
#[derive(Clone, Default)]
struct Issuer {
    answer: Arc<Mutex<(u16, String)>>,
    asked: Arc<AtomicUsize>,
    pause: Arc<Mutex<Duration>>,
}

impl Issuer {
    fn publish(&self, keys: &[&SigningKey]) {
        let keys: Vec<Value> = keys
            .iter()
            .map(|key| key.public_jwk().expect("public"))
            .collect();
        self.answer_with(200, &json!({ "keys": keys }).to_string());
    }

    fn answer_with(&self, status: u16, body: &str) {
        *self.answer.lock().expect("unpoisoned") = (status, body.to_owned());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Listens; `None` for a free port.
    #[expect(clippy::disallowed_methods, reason = "the clients are the test's own")]
    async fn serve(&self, at: Option<SocketAddr>) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let at = at.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = TcpListener::bind(at).await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let router = Router::new().fallback(answer).with_state(self.clone());
        let task =
            tokio::spawn(async move { axum::serve(listener, router).await.expect("served") });
        (address, task)
    }
}

async fn answer(State(issuer): State<Issuer>) -> Response {
    issuer.asked.fetch_add(1, Ordering::SeqCst);
    let pause = *issuer.pause.lock().expect("unpoisoned");
    tokio::time::sleep(pause).await;
    let (status, body) = issuer.answer.lock().expect("unpoisoned").clone();
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [("location", "/elsewhere")], body).into_response()
}

fn key() -> SigningKey {
    SigningKey::generate(Algorithm::Es256).expect("made").0
}

fn token(key: &SigningKey) -> String {
    let claims = json!({"sub": "alice", "exp": NOW_MS / 1000 + 60});
    key.sign(&claims, key.kid().as_deref()).expect("signed")
}

fn quick() -> KeySetOptions {
    KeySetOptions {
        floor: Duration::from_millis(1),
        file_every: Duration::from_millis(20),
        retry_min: Duration::from_millis(20),
        ..KeySetOptions::default()
    }
}

fn verifier(address: SocketAddr, options: KeySetOptions) -> Verifier {
    let url: Uri = format!("http://{address}/keys").parse().expect("a URL");
    let keys = KeySet::start(KeySource::jwks_url(url), options).expect("started");
    Verifier::new(keys, Checks::new([Algorithm::Es256, Algorithm::Hs256]))
}

async fn check(verifier: &Verifier, key: &SigningKey) -> Result<Claims, TokenError> {
    verifier.verify(&token(key), NOW_MS).await
}

/// Until a token is judged so.
async fn becomes(verifier: &Verifier, key: &SigningKey, expected: Option<TokenError>) {
    let wait = async {
        while check(verifier, key).await.err() != expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let last = tokio::time::timeout(SOON, wait).await;
    assert!(last.is_ok(), "{:?}", check(verifier, key).await);
}

#[tokio::test]
async fn keys_rotate() {
    let (old, new) = (key(), key());
    let issuer = Issuer::default();
    issuer.publish(&[&old]);
    let (address, _task) = issuer.serve(None).await;
    let verifier = verifier(address, quick());
    assert!(check(&verifier, &old).await.is_ok());
    assert_eq!(issuer.asked(), 1);
    // Both at once, then the old one vanishes.
    issuer.publish(&[&old, &new]);
    becomes(&verifier, &new, None).await;
    assert!(check(&verifier, &old).await.is_ok());
    issuer.publish(&[&new]);
    // An unknown key is what has the set fetched again, once the floor allows it.
    let asked = issuer.asked();
    while issuer.asked() == asked {
        becomes(&verifier, &key(), Some(TokenError::UnknownKey)).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    becomes(&verifier, &old, Some(TokenError::UnknownKey)).await;
    assert!(check(&verifier, &new).await.is_ok());
}

#[tokio::test]
async fn keys_get_no_older_than_they_may() {
    let (old, new) = (key(), key());
    let issuer = Issuer::default();
    issuer.publish(&[&old]);
    let (address, _task) = issuer.serve(None).await;
    let options = KeySetOptions {
        max_age: Duration::from_millis(50),
        ..KeySetOptions::default()
    };
    let verifier = verifier(address, options);
    assert!(check(&verifier, &old).await.is_ok());
    issuer.publish(&[&new]);
    becomes(&verifier, &old, Some(TokenError::UnknownKey)).await;
}

#[tokio::test]
async fn unknown_keys_share_a_fetch_and_then_wait_for_the_floor() {
    let known = key();
    let issuer = Issuer::default();
    issuer.publish(&[&known]);
    let (address, _task) = issuer.serve(None).await;
    let options = KeySetOptions {
        floor: Duration::from_millis(300),
        ..KeySetOptions::default()
    };
    let verifier = verifier(address, options.clone());
    assert!(check(&verifier, &known).await.is_ok());
    // The fetch at start counts, too.
    let strangers: Vec<SigningKey> = (0..20).map(|_| key()).collect();
    let storm = async || {
        let all = strangers.iter().map(|stranger| check(&verifier, stranger));
        for result in futures_util::future::join_all(all).await {
            assert_eq!(result, Err(TokenError::UnknownKey));
        }
    };
    storm().await;
    assert_eq!(issuer.asked(), 1);
    // The floor itself is what is waited for.
    tokio::time::sleep(options.floor).await;
    *issuer.pause.lock().expect("unpoisoned") = Duration::from_millis(100);
    let begun = std::time::Instant::now();
    storm().await;
    assert_eq!(issuer.asked(), 2);
    storm().await;
    if begun.elapsed() < options.floor {
        assert_eq!(issuer.asked(), 2, "the floor has not passed");
    }
    assert!(check(&verifier, &known).await.is_ok());
}

#[tokio::test]
async fn an_issuer_that_is_away_at_start_is_tried_again() {
    let known = key();
    let issuer = Issuer::default();
    issuer.publish(&[&known]);
    let (address, task) = issuer.serve(None).await;
    task.abort();
    let _ = task.await;
    let verifier = verifier(address, quick());
    assert_eq!(
        check(&verifier, &known).await,
        Err(TokenError::KeysUnavailable)
    );
    let (_, _task) = issuer.serve(Some(address)).await;
    becomes(&verifier, &known, None).await;
}

#[tokio::test]
async fn a_failed_fetch_keeps_the_keys_until_they_are_stale() {
    let known = key();
    let stranger = key();
    let issuer = Issuer::default();
    let too_large = "x".repeat(300 * 1024);
    let answers = [
        (500, "{\"keys\":[]}"),
        (302, "{\"keys\":[]}"),
        (404, "not here"),
        (200, "<html>sign in</html>"),
        (200, "{\"keys\":7}"),
        (200, too_large.as_str()),
    ];
    for (status, body) in answers {
        issuer.publish(&[&known]);
        let (address, _task) = issuer.serve(None).await;
        let verifier = verifier(address, quick());
        assert!(check(&verifier, &known).await.is_ok());
        issuer.answer_with(status, body);
        let asked = issuer.asked();
        let wait = async {
            while issuer.asked() < asked + 2 {
                assert_eq!(
                    check(&verifier, &stranger).await,
                    Err(TokenError::UnknownKey)
                );
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, wait).await.expect("asked again");
        assert!(
            check(&verifier, &known).await.is_ok(),
            "{status} {}",
            body.len()
        );
    }
    issuer.publish(&[&known]);
    let (address, _task) = issuer.serve(None).await;
    let options = KeySetOptions {
        max_age: Duration::from_millis(30),
        stale_max: Duration::from_millis(100),
        ..quick()
    };
    let verifier = verifier(address, options);
    becomes(&verifier, &known, None).await;
    issuer.answer_with(503, "");
    becomes(&verifier, &known, Some(TokenError::KeysUnavailable)).await;
    issuer.publish(&[&known]);
    becomes(&verifier, &known, None).await;
}

#[tokio::test]
async fn an_issuer_that_withdraws_everything_is_believed() {
    let known = key();
    let issuer = Issuer::default();
    issuer.publish(&[&known]);
    let (address, _task) = issuer.serve(None).await;
    let verifier = verifier(address, quick());
    assert!(check(&verifier, &known).await.is_ok());
    issuer.publish(&[]);
    becomes(&verifier, &key(), Some(TokenError::UnknownKey)).await;
    becomes(&verifier, &known, Some(TokenError::UnknownKey)).await;
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_holds_nobody_up() {
    let known = key();
    let issuer = Issuer::default();
    issuer.publish(&[&known]);
    *issuer.pause.lock().expect("unpoisoned") = Duration::from_secs(3600);
    let (address, _task) = issuer.serve(None).await;
    let options = KeySetOptions {
        wait_max: Duration::from_millis(50),
        outside: OutsideOptions {
            timeout: Duration::from_millis(100),
            ..OutsideOptions::default()
        },
        ..quick()
    };
    let verifier = verifier(address, options);
    let answer = tokio::time::timeout(SOON, check(&verifier, &known)).await;
    assert_eq!(answer.expect("in time"), Err(TokenError::KeysUnavailable));
    *issuer.pause.lock().expect("unpoisoned") = Duration::ZERO;
    becomes(&verifier, &known, None).await;
}

#[tokio::test]
async fn a_file_s_change_is_noticed_and_a_broken_one_is_not_taken() {
    let (old, new) = (key(), key());
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("keys.json");
    let write = |keys: &[&SigningKey]| {
        let keys: Vec<Value> = keys
            .iter()
            .map(|key| key.public_jwk().expect("public"))
            .collect();
        // As deployments do it: a new file takes the old one's place.
        let next = folder.path().join("next");
        std::fs::write(&next, json!({ "keys": keys }).to_string()).expect("written");
        std::fs::rename(&next, &path).expect("renamed");
    };
    assert!(KeySet::start(KeySource::jwks_file(&path), quick()).is_err());
    write(&[&old]);
    let keys = KeySet::start(KeySource::jwks_file(&path), quick()).expect("started");
    let verifier = Verifier::new(keys, Checks::new([Algorithm::Es256]));
    assert!(check(&verifier, &old).await.is_ok());
    write(&[&old, &new]);
    becomes(&verifier, &new, None).await;
    std::fs::write(&path, "half a fi").expect("written");
    let strangers_are_told = check(&verifier, &key()).await;
    assert_eq!(strangers_are_told, Err(TokenError::UnknownKey));
    assert!(check(&verifier, &new).await.is_ok());
    write(&[&new]);
    becomes(&verifier, &old, Some(TokenError::UnknownKey)).await;
}

#[tokio::test]
async fn keys_that_are_given_need_no_looking() {
    let known = key();
    let set = json!({"keys": [known.public_jwk().expect("public")]}).to_string();
    let keys = KeySet::start(KeySource::jwks(set.as_bytes()), quick()).expect("started");
    let verifier = Verifier::new(keys, Checks::new([Algorithm::Es256]));
    assert!(check(&verifier, &known).await.is_ok());
    assert_eq!(check(&verifier, &key()).await, Err(TokenError::UnknownKey));
    let url = |text: &str| KeySource::jwks_url(text.parse().expect("a URI"));
    for wrong in ["ftp://a/b", "/keys", "http://u:p@a/b"] {
        assert!(KeySet::start(url(wrong), quick()).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn an_exchange_is_bounded() {
    let issuer = Issuer::default();
    let (address, _task) = issuer.serve(None).await;
    let outside = Outside::new(OutsideOptions {
        timeout: Duration::from_millis(200),
        answer_bytes_max: 1000,
        roots_file: None,
    });
    let url = |path: &str| -> Uri { format!("http://{address}{path}").parse().expect("a URL") };
    let call = async || {
        outside
            .call(Call::post(url("/x?token=hidden"), "hello"))
            .await
    };
    issuer.answer_with(200, &"x".repeat(1000));
    assert_eq!(call().await.expect("answered").body.len(), 1000);
    issuer.answer_with(200, &"x".repeat(1001));
    assert!(matches!(
        call().await,
        Err(OutsideError::TooLarge { max: 1000, .. })
    ));
    issuer.answer_with(307, "elsewhere");
    let asked = issuer.asked();
    let answer = call().await.expect("answered");
    assert_eq!(answer.status, StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(issuer.asked(), asked + 1, "a redirect is not followed");
    *issuer.pause.lock().expect("unpoisoned") = Duration::from_secs(3600);
    let error = call().await.expect_err("too slow");
    assert!(matches!(error, OutsideError::TimedOut { .. }), "{error}");
    assert!(!format!("{error}{:?}", Call::get(url("/?token=hidden"))).contains("hidden"));
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let free = nobody.local_addr().expect("bound");
    drop(nobody);
    let call = Call::get(format!("http://{free}/").parse().expect("a URL"));
    let error = outside.call(call).await.expect_err("nobody there");
    assert!(matches!(error, OutsideError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn https_trusts_who_it_is_told_to() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    let pem = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(pem.path(), made.cert.pem()).expect("written");
    let private = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes());
    let config = tokio_rustls::rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], private.expect("a key"))
        .expect("fits");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        }
    });
    let call = || Call::get(format!("https://localhost:{port}/").parse().expect("a URL"));
    let outside = |roots_file| {
        Outside::new(OutsideOptions {
            roots_file,
            timeout: SOON,
            ..OutsideOptions::default()
        })
    };
    let trusting = outside(Some(pem.path().to_owned()));
    assert_eq!(trusting.call(call()).await.expect("answered").body, "ok");
    let error = outside(None).call(call()).await.expect_err("a stranger");
    assert!(
        matches!(
            error,
            OutsideError::Unreachable { .. } | OutsideError::Roots(_)
        ),
        "{error}"
    );
    let missing = outside(Some("/nowhere/roots.pem".into()));
    let error = missing.call(call()).await.expect_err("no such file");
    assert!(matches!(error, OutsideError::Roots(_)), "{error}");
}
