//! Signatures and encryption as the protocol's clients make them, down to what polling needs:
//! HMAC-SHA256, AES-256-CBC, and ECDH on P-256, all from aws-lc-rs.

use anyhow::{Context as _, Result, bail};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::APP;

/// 32 bytes that sign and encrypt: an integrator's, or a session's.
#[derive(Clone)]
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let bytes = STANDARD.decode(text)?;
        let key = bytes.try_into().ok().context("a key has 32 bytes")?;
        Ok(Self(key))
    }

    /// A request with the protocol's headers, encrypted and signed.
    pub(super) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
        nonce: u64,
    ) -> Result<Vec<u8>> {
        let body = match body {
            Some(body) => self.seal(body.to_string().as_bytes())?,
            None => String::new(),
        };
        let authorization = format!("SWCH-HMAC-SHA256 Credentials={APP}");
        let signature = self.sign(&format!("{path}{authorization}{nonce}{body}"));
        let mut out = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             x-cardsavr-client-application: {APP} - tidings-bench\r\nx-cardsavr-trace: {{\"key\":\"bench\"}}\r\n\
             x-cardsavr-authorization: {authorization}\r\nx-cardsavr-nonce: {nonce}\r\n\
             x-cardsavr-signature: {signature}\r\n"
        );
        for (name, value) in headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            let length = body.len();
            out.push_str(&format!(
                "content-type: application/json\r\ncontent-length: {length}\r\n"
            ));
        }
        out.push_str("\r\n");
        out.push_str(&body);
        Ok(out.into_bytes())
    }

    /// A body that carries a text in the sealed form.
    fn seal(&self, clear: &[u8]) -> Result<String> {
        let key = UnboundCipherKey::new(&AES_256, &self.0)?;
        let mut text = clear.to_vec();
        let context = PaddedBlockEncryptingKey::cbc_pkcs7(key)?.encrypt(&mut text)?;
        let DecryptionContext::Iv128(iv) = context else {
            bail!("CBC has a vector of 16 bytes");
        };
        let (text, iv) = (STANDARD.encode(text), STANDARD.encode(iv.as_ref()));
        Ok(json!({"encrypted_body": format!("{text}${iv}")}).to_string())
    }

    /// What a body carries.
    pub(super) fn open(&self, body: &[u8]) -> Result<Vec<u8>> {
        let body: Value = serde_json::from_slice(body)?;
        let sealed = body["encrypted_body"].as_str().context("a clear reply")?;
        let (text, iv) = sealed.split_once('$').context("no vector")?;
        let iv: [u8; 16] = STANDARD
            .decode(iv)?
            .try_into()
            .ok()
            .context("16 bytes of vector")?;
        let key = UnboundCipherKey::new(&AES_256, &self.0)?;
        let mut text = STANDARD.decode(text)?;
        let context = DecryptionContext::Iv128(iv.into());
        let clear = PaddedBlockDecryptingKey::cbc_pkcs7(key)?.decrypt(&mut text, context)?;
        Ok(clear.to_vec())
    }

    pub(super) fn sign(&self, text: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        STANDARD.encode(hmac::sign(&key, text.as_bytes()))
    }
}

/// One side of a login.
pub(super) struct Login(PrivateKey);

impl Login {
    pub(super) fn begin() -> Result<Self> {
        Ok(Self(PrivateKey::generate(&ECDH_P256)?))
    }

    /// The public key, uncompressed.
    pub(super) fn public(&self) -> Result<String> {
        Ok(STANDARD.encode(self.0.compute_public_key()?))
    }

    /// The session's key: the raw X coordinate of what both agree on.
    pub(super) fn agreed(&self, public: &str) -> Result<Key> {
        let public = UnparsedPublicKey::new(&ECDH_P256, STANDARD.decode(public)?);
        let refused = anyhow::anyhow!("a public key that is none");
        agree(&self.0, public, refused, |x| {
            let key = x.try_into().ok().context("32 bytes")?;
            Ok(Key(key))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::APP_KEY;
    use super::*;

    /// The contract's vectors, section 2.2.
    #[test]
    fn as_the_contract_has_it() {
        let session = Key::parse("60WaazDXDrTA3c006pbtWej40YQ8It2JWrYDqhPZqB0=").expect("a key");
        let body = r#"{"encrypted_body":"9oEP6qALzVxk2F3FPmkMhw==$AwMDAwMDAwMDAwMDAwMDAw=="}"#;
        let path = "/messages/place_card_on_single_site_jobs/101/broadcasts/registrations";
        let signed = format!("{path}SWCH-HMAC-SHA256 Credentials={APP}1700000000000{body}");
        assert_eq!(
            session.sign(&signed),
            "gVZWT2fVbuZ30zAXrCKwMk6cjT+GhZxC4S/AVpzbgIA="
        );
        let clear = session.open(body.as_bytes()).expect("it opens");
        assert_eq!(clear, br#"{"job_id":101}"#);
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_alone() {
        let key = Key::parse(APP_KEY).expect("a key");
        let sealed = key.seal(b"[]").expect("sealed");
        assert_eq!(key.open(sealed.as_bytes()).expect("opened"), b"[]");
        let other = Key([7; 32]);
        assert_ne!(
            other.open(sealed.as_bytes()).ok().as_deref(),
            Some(&b"[]"[..])
        );
    }

    #[test]
    fn both_sides_agree() {
        let (one, two) = (Login::begin().expect("a"), Login::begin().expect("b"));
        let first = one.agreed(&two.public().expect("public")).expect("agreed");
        let second = two.agreed(&one.public().expect("public")).expect("agreed");
        assert_eq!(first.0, second.0);
        assert!(one.agreed("AAAA").is_err());
    }
}
