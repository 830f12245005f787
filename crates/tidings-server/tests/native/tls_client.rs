//! Clients of a TLS listener: a certificate of their own making, HTTP/2 by hyper, and frames by hand.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::common::{KEY, SOON};

/// A certificate and its key in files.
pub(crate) struct Pair {
    dir: tempfile::TempDir,
}

impl Pair {
    pub(crate) fn new() -> Self {
        let pair = Self {
            dir: tempfile::tempdir().expect("a directory"),
        };
        pair.renew();
        pair
    }

    pub(crate) fn cert(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.dir.path().join("key.pem")
    }

    /// Puts a new certificate there, and answers with it.
    pub(crate) fn renew(&self) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a pair");
        std::fs::write(self.cert(), made.cert.pem()).expect("written");
        std::fs::write(self.key(), made.signing_key.serialize_pem()).expect("written");
        made.cert.der().clone()
    }

    /// The members of a table that name the files.
    pub(crate) fn members(&self) -> String {
        let (cert, key) = (self.cert(), self.key());
        format!("tls_cert = {cert:?}\ntls_key = {key:?}\n")
    }

    /// Connects as one who trusts what is in the files now.
    pub(crate) async fn connect(&self, address: SocketAddr, alpn: &str) -> TlsStream<TcpStream> {
        use tokio_rustls::rustls::pki_types::pem::PemObject as _;
        let cert = CertificateDer::from_pem_file(self.cert()).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(cert).expect("a root");
        let stream = TcpStream::connect(address).await.expect("a connection");
        let shaken = connector(roots, alpn).connect(localhost(), stream);
        tokio::time::timeout(SOON, shaken)
            .await
            .expect("in time")
            .expect("a handshake")
    }

    /// An HTTP/2 connection.
    pub(crate) async fn http2(&self, address: SocketAddr) -> Client {
        let stream = self.connect(address, "h2").await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(stream))
            .await
            .expect("a handshake");
        tokio::spawn(connection);
        Client(sender)
    }

    /// An HTTP/2 connection whose frames a test writes itself.
    pub(crate) async fn frames(&self, address: SocketAddr) -> Frames {
        let mut stream = self.connect(address, "h2").await;
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .expect("sent");
        let mut frames = Frames { stream };
        frames.send(SETTINGS, 0, 0, &[]).await.expect("sent");
        frames
    }
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").expect("a name")
}

fn connector(roots: RootCertStore, alpn: &str) -> TlsConnector {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn
        .split_whitespace()
        .map(|one| one.as_bytes().to_vec())
        .collect();
    TlsConnector::from(Arc::new(config))
}

/// An HTTP/2 connection.
#[derive(Clone)]
pub(crate) struct Client(SendRequest<Full<Bytes>>);

impl Client {
    /// Sends a request with the key that opens everything, and hands out the answer as it comes.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
    ) -> Response<Incoming> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://localhost{path}"))
            .header("authorization", format!("Bearer {KEY}"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .expect("a request");
        self.0.ready().await.expect("the connection stands");
        tokio::time::timeout(SOON, self.0.send_request(request))
            .await
            .expect("in time")
            .expect("an answer")
    }

    /// Whether the server has ended the connection.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_closed()
    }
}

pub(crate) const HEADERS: u8 = 0x1;
pub(crate) const RST_STREAM: u8 = 0x3;
pub(crate) const SETTINGS: u8 = 0x4;
pub(crate) const GOAWAY: u8 = 0x7;
pub(crate) const CONTINUATION: u8 = 0x9;
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;

/// An HTTP/2 connection (RFC 9113 §4.1), frame by frame.
pub(crate) struct Frames {
    pub(crate) stream: TlsStream<TcpStream>,
}

impl Frames {
    pub(crate) async fn send(
        &mut self,
        kind: u8,
        flags: u8,
        id: u32,
        payload: &[u8],
    ) -> std::io::Result<()> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(id.to_be_bytes());
        frame.extend(payload);
        self.stream.write_all(&frame).await
    }

    /// Reads until the server ends the connection; answers with the error codes of its GOAWAYs.
    pub(crate) async fn until_over(&mut self) -> Vec<u32> {
        let mut codes = Vec::new();
        let read = async {
            loop {
                let mut head = [0; 9];
                if self.stream.read_exact(&mut head).await.is_err() {
                    return;
                }
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                let mut payload = vec![0; length];
                if self.stream.read_exact(&mut payload).await.is_err() {
                    return;
                }
                if head[3] == GOAWAY {
                    codes.push(u32::from_be_bytes(
                        payload[4..8].try_into().expect("four bytes"),
                    ));
                }
            }
        };
        tokio::time::timeout(SOON, read)
            .await
            .expect("the server ends it");
        codes
    }
}

/// The header block of `GET <path>` (RFC 7541): indexed fields, and literals without Huffman coding.
pub(crate) fn get(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x87];
    for (index, value) in [(0x04, path), (0x01, "localhost")] {
        block.push(index);
        block.push(u8::try_from(value.len()).expect("a short value"));
        block.extend(value.as_bytes());
    }
    block
}
