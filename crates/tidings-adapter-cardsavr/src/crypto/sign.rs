//! Signatures of requests and replies: over the path, the `authorization`, the nonce, the body.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;

use super::Key;

/// What stands before the integrator's name.
const SCHEME: &str = "SWCH-HMAC-SHA256 Credentials=";

/// The value of the header `authorization` for an integrator.
pub(crate) fn authorization(app: &str) -> String {
    format!("{SCHEME}{app}")
}

/// The integrator that signs, by the header `authorization`.
pub(crate) fn app_name(authorization: &str) -> Option<&str> {
    let name = authorization.strip_prefix(SCHEME)?;
    (!name.is_empty()).then_some(name)
}

/// What is signed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signed<'a> {
    /// Path and query.
    pub(crate) target: &'a str,
    pub(crate) authorization: &'a str,
    pub(crate) nonce: &'a str,
    /// As it is on the wire.
    pub(crate) body: &'a [u8],
}

impl Signed<'_> {
    fn parts(&self) -> [&[u8]; 4] {
        [
            self.target.as_bytes(),
            self.authorization.as_bytes(),
            self.nonce.as_bytes(),
            self.body,
        ]
    }

    /// The signature.
    pub(crate) fn sign(&self, key: &Key) -> String {
        key.sign(&self.parts())
    }

    /// Whether this is its signature.
    pub(crate) fn is_signed(&self, key: &Key, signature: &str) -> bool {
        let signature = STANDARD.decode(signature).unwrap_or_default();
        key.has_signed(&self.parts(), &signature)
    }
}

/// What a client may have signed as its request's path and query: decoded as JavaScript's
/// `decodeURIComponent` does it, as it came (Java), and both without a `?` that nothing follows.
pub(crate) fn targets(raw: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let bare = raw.strip_suffix('?');
    let both = [Some(raw), bare].into_iter().flatten();
    both.flat_map(|one| {
        let decoded = decode(one).filter(|text| text != one);
        decoded.into_iter().chain([Cow::Borrowed(one)])
    })
}

/// `decodeURIComponent`; `None` where that throws.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let after = rest.get(at + 1..)?;
        let code = after.as_bytes().get(..2)?;
        if !code.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        rest = after.get(2..)?;
    }
    percent_decode_str(text).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_signed() {
        for (raw, all) in [
            ("/a?q=a%20b", &["/a?q=a b", "/a?q=a%20b"] as &[&str]),
            ("/a", &["/a"]),
            ("/a/?", &["/a/?", "/a/"]),
            ("/%C3%A4?", &["/ä?", "/%C3%A4?", "/ä", "/%C3%A4"]),
            // These throw in JavaScript.
            ("/a%", &["/a%"]),
            ("/a%2", &["/a%2"]),
            ("/a%zz", &["/a%zz"]),
            ("/%ff", &["/%ff"]),
            ("/%ä", &["/%ä"]),
            ("/a+b", &["/a+b"]),
        ] {
            assert_eq!(targets(raw).collect::<Vec<_>>(), all, "{raw}");
        }
    }

    #[test]
    fn names() {
        assert_eq!(app_name(&authorization("acme-app")), Some("acme-app"));
        for bad in [
            "",
            "Basic x",
            "SWCH-HMAC-SHA256 Credentials=",
            "SWCH-HMAC-SHA256",
        ] {
            assert_eq!(app_name(bad), None, "{bad}");
        }
    }
}
