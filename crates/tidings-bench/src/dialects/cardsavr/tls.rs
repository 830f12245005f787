//! One request over a TLS connection of its own, without resumption, as the SDK does it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use crate::http::{Head, connect};

/// An answer is some kilobytes, a page of messages at most a megabyte.
const ANSWER_MAX: usize = 2 * 1024 * 1024;

/// A way to a hub.
#[derive(Clone)]
pub(super) struct Way {
    address: SocketAddr,
    connector: TlsConnector,
}

/// An answer in the form that came.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Way {
    pub(super) fn to(address: SocketAddr) -> Result<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let anybody = Arc::new(Anybody(provider.clone()));
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(anybody)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Self { address, connector })
    }

    /// Connects, asks, and hangs up.
    pub(super) async fn ask(&self, request: &[u8]) -> Result<Answer> {
        let stream = connect(self.address).await?;
        let name = ServerName::from(self.address.ip());
        let mut stream = self.connector.connect(name, stream).await?;
        stream.write_all(request).await?;
        let mut bytes = Vec::with_capacity(4096);
        loop {
            if let Some((head, start)) = Head::parse(&bytes)? {
                let length = head.length()?;
                if length > ANSWER_MAX {
                    bail!("an answer is longer than {ANSWER_MAX} bytes");
                }
                if let Some(body) = bytes.get(start..start + length) {
                    return Ok(Answer {
                        status: head.status,
                        body: body.to_vec(),
                    });
                }
            }
            let count = stream.read_buf(&mut bytes).await;
            if count.context("the answer broke off")? == 0 {
                bail!("the hub closed the connection");
            }
        }
    }
}

/// Takes any certificate: the hub was started here, and has made its own.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
