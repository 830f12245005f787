//! Sealed texts: `ciphertext$iv` in base64, and `$aes-256-gcm` behind it for the newer form.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey,
    PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::Key;

/// The third part, where there is one.
const GCM: &str = "aes-256-gcm";
const CBC: &str = "aes-256-cbc";

/// How texts are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sealing {
    /// AES-256-CBC with PKCS#7.
    #[default]
    Cbc,
    /// AES-256-GCM with 12 bytes of IV and the tag behind the ciphertext, said by a third part.
    Gcm,
}

/// A sealed text, taken apart. Its form says nothing about any key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) sealing: Sealing,
    ciphertext: Vec<u8>,
    iv: Vec<u8>,
}

/// It was not sealed with this key, or was changed. Why it cannot be opened is not told: the
/// difference between a bad padding and a bad text is what an attacker would ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opening;

impl Sealed {
    /// Takes a text apart; `None` when it has not the form.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('$');
        let (ciphertext, iv) = (parts.next()?, parts.next()?);
        let sealing = match parts.next() {
            None => Sealing::Cbc,
            Some(name) if name.eq_ignore_ascii_case(CBC) => Sealing::Cbc,
            Some(name) if name.eq_ignore_ascii_case(GCM) => Sealing::Gcm,
            Some(_) => return None,
        };
        let (ciphertext, iv) = (STANDARD.decode(ciphertext).ok()?, STANDARD.decode(iv).ok()?);
        let fits = match sealing {
            Sealing::Cbc => {
                iv.len() == 16 && !ciphertext.is_empty() && ciphertext.len().is_multiple_of(16)
            }
            Sealing::Gcm => iv.len() == 12 && ciphertext.len() >= 16,
        };
        (parts.next().is_none() && fits).then_some(Self {
            sealing,
            ciphertext,
            iv,
        })
    }

    /// Changes the last byte of the block before the last, or of what is before the tag.
    #[cfg(test)]
    pub(crate) fn flip(&mut self) {
        let at = self.ciphertext.len() - 17;
        self.ciphertext[at] ^= 0xff;
    }

    /// The clear text.
    pub(crate) fn open(mut self, key: &Key) -> Result<Vec<u8>, Opening> {
        let length = match self.sealing {
            Sealing::Cbc => {
                let iv = <[u8; 16]>::try_from(self.iv).map_err(|_| Opening)?;
                let key = UnboundCipherKey::new(&AES_256, &key.0).map_err(|_| Opening)?;
                let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(|_| Opening)?;
                let context = DecryptionContext::Iv128(FixedLength::from(iv));
                let clear = key.decrypt(&mut self.ciphertext, context);
                clear.map_err(|_| Opening)?.len()
            }
            Sealing::Gcm => {
                let iv = Nonce::try_assume_unique_for_key(&self.iv).map_err(|_| Opening)?;
                let key = UnboundKey::new(&AES_256_GCM, &key.0).map_err(|_| Opening)?;
                let key = LessSafeKey::new(key);
                let clear = key.open_in_place(iv, Aad::empty(), &mut self.ciphertext);
                clear.map_err(|_| Opening)?.len()
            }
        };
        self.ciphertext.truncate(length);
        Ok(self.ciphertext)
    }
}

impl Sealing {
    /// Seals a text with random bytes, of which GCM takes the first twelve: they must be new for
    /// every text. `None` if the library refuses, which it does not for keys and texts that fit
    /// into memory.
    pub(crate) fn seal(self, key: &Key, clear: &[u8], random: [u8; 16]) -> Option<String> {
        let mut text = Vec::with_capacity(clear.len() + 16);
        text.extend_from_slice(clear);
        match self {
            Self::Cbc => {
                let key = UnboundCipherKey::new(&AES_256, &key.0).ok()?;
                let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).ok()?;
                let context = EncryptionContext::Iv128(FixedLength::from(random));
                key.less_safe_encrypt(&mut text, context).ok()?;
                let (text, iv) = (STANDARD.encode(text), STANDARD.encode(random));
                Some(format!("{text}${iv}"))
            }
            Self::Gcm => {
                let (iv, _) = random.split_first_chunk::<12>()?;
                let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key.0).ok()?);
                let nonce = Nonce::assume_unique_for_key(*iv);
                key.seal_in_place_append_tag(nonce, Aad::empty(), &mut text)
                    .ok()?;
                let (text, iv) = (STANDARD.encode(text), STANDARD.encode(iv));
                Some(format!("{text}${iv}${GCM}"))
            }
        }
    }
}

/// The body that carries a sealed text. Compact: the SDK signs what its own JSON printer makes of it.
pub(crate) fn envelope(sealed: &str) -> String {
    // Base64 and `$` need no escapes.
    format!(r#"{{"encrypted_body":"{sealed}"}}"#)
}

/// What a body carries.
#[derive(Deserialize)]
struct Envelope {
    encrypted_body: String,
}

impl Sealed {
    /// Takes a body apart; `None` when it has not the form.
    pub(crate) fn of_body(body: &[u8]) -> Option<Self> {
        let envelope: Envelope = serde_json::from_slice(body).ok()?;
        Self::parse(&envelope.encrypted_body)
    }
}
