//! Clients that take nothing, over pipes and in a time that passes when nothing else does.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioExecutor;
use prometheus::Registry;
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::time::Instant;

use super::*;
use crate::config::{Sources, load};
use crate::edge::plan;
use crate::native::Refused;

const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

fn doors() -> (Doors, Front) {
    let config = load(&Sources::default()).expect("the defaults fit").config;
    let registry = Registry::new();
    let refused = Refused::register(&registry).expect("a fresh registry");
    let doors = Doors::new(&config.server, &registry, refused.clone()).expect("a fresh one");
    let front = Front::new(refused);
    let all = plan::Place {
        who: 0,
        host: None,
        path: None,
    };
    let router = Router::new()
        .route("/large", get(|| async { vec![7; 1 << 20] }))
        .route("/small", get(|| async { "small" }));
    front.open(&[all], &router, &[], Duration::from_secs(10));
    (doors, front)
}

fn request(path: &str) -> http::Request<Empty<axum::body::Bytes>> {
    let request = http::Request::builder().uri(format!("https://localhost{path}"));
    request.body(Empty::new()).expect("a request")
}

/// A connection to the server's end of a pipe that holds this much.
fn connect(bytes: usize) -> (DuplexStream, tokio::task::JoinHandle<()>) {
    let ((doors, front), (near, far)) = (doors(), tokio::io::duplex(bytes));
    let near = Patient::new(near, WRITE_STALL, None);
    let served = tokio::spawn(async move { doors.http2(near, front, PEER).await });
    (far, served)
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_taken_is_given_up_and_the_others_go_on() {
    let (far, _served) = connect(1 << 20);
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .initial_stream_window_size(1000)
        .initial_connection_window_size(1 << 20);
    let (mut sender, connection) = builder.handshake(TokioIo::new(far)).await.expect("shaken");
    tokio::spawn(connection);
    let answer = sender
        .send_request(request("/large"))
        .await
        .expect("an answer");
    let mut untaken = answer.into_body();
    let started = Instant::now();
    for _ in 0..8 {
        // Beside it the connection lives.
        let answer = sender
            .send_request(request("/small"))
            .await
            .expect("an answer");
        let body = answer
            .into_body()
            .collect()
            .await
            .expect("whole")
            .to_bytes();
        assert_eq!(&body[..], b"small");
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    while let Some(frame) = untaken.frame().await {
        if frame.is_err() {
            assert!(started.elapsed() >= WRITE_STALL);
            return;
        }
    }
    panic!("it was waited for");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_at_all_is_given_up() {
    let (mut far, served) = connect(4096);
    far.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .expect("sent");
    // GET /large, and windows that would take all of it.
    far.write_all(b"\0\0\x04\x08\0\0\0\0\0\x00\x7f\0\0")
        .await
        .expect("sent");
    far.write_all(b"\0\0\x15\x01\x05\0\0\0\x01\x82\x87\x04\x06/large\x01\x09localhost")
        .await
        .expect("sent");
    far.write_all(b"\0\0\x04\x08\0\0\0\0\x01\x00\x7f\0\0")
        .await
        .expect("sent");
    let started = Instant::now();
    served.await.expect("no panic");
    let took = started.elapsed();
    assert!(took >= WRITE_STALL && took < WRITE_STALL * 2, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn tls_does_not_hide_that_nothing_is_taken() {
    let certificates = crate::edge::tls::Certificates::default();
    let tls = certificates
        .acceptor(&crate::edge::tls::Tls::SelfSigned)
        .expect("made")
        .expect("TLS");
    let (near, far) = tokio::io::duplex(4096);
    let near = Patient::new(near, WRITE_STALL, None);
    let (shaken, client) = tokio::join!(
        tls.accept(near),
        trusting().connect("localhost".try_into().expect("a name"), far)
    );
    let (mut stream, _client) = (shaken.expect("shaken"), client.expect("shaken"));
    let started = Instant::now();
    let error = loop {
        match stream.write_all(&[7; 4096]).await {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(started.elapsed(), WRITE_STALL);
}

/// A client that takes any certificate: the one here has nobody's signature.
fn trusting() -> tokio_rustls::TlsConnector {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use tokio_rustls::rustls;

    #[derive(Debug)]
    struct Any;

    impl ServerCertVerifier for Any {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            let provider = rustls::crypto::aws_lc_rs::default_provider();
            provider
                .signature_verification_algorithms
                .supported_schemes()
        }
    }

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any))
        .with_no_client_auth();
    tokio_rustls::TlsConnector::from(Arc::new(config))
}
