//! Tokens and the keys that issuers publish: whatever is sent, nobody is let in who was not signed
//! for.

use std::sync::OnceLock;

use serde_json::Value;
use tidings_adapter::jwt::{Algorithm, Checks, Keys, SigningKey, Unverified, verify};

/// What the issuer of this target signs with; no seed is signed with it.
const SECRET: &[u8] = b"known to the issuer of the fuzz target alone";
const NOW_MS: u64 = 1_732_161_600_000;

fn issuer() -> &'static (SigningKey, Keys) {
    static ISSUER: OnceLock<(SigningKey, Keys)> = OnceLock::new();
    ISSUER.get_or_init(|| {
        let signing = SigningKey::secret(SECRET).expect("it is long enough");
        let keys = Keys::secret(SECRET).expect("it is long enough");
        (signing, keys.try_all(true))
    })
}

/// A token as it was sent; or, a header and claims in JSON, a line each, which the issuer signs.
pub fn token(input: &[u8]) {
    let (signing, keys) = issuer();
    let checks = Checks::new(Algorithm::ALL);
    let text = String::from_utf8_lossy(input);
    let _ = Unverified::parse(&text, checks.max_token_bytes);
    let sent = verify(&text, keys, &checks, NOW_MS);
    assert!(sent.is_err(), "nobody has signed this: {text}");

    let (header, claims) = crate::first_line(input);
    let json = |text| serde_json::from_slice::<Value>(text).ok();
    let (Some(header), Some(claims)) = (json(header), json(claims)) else {
        return;
    };
    let Ok(signed) = signing.sign_with_header(&header, &claims) else {
        return;
    };
    if let Ok(good) = verify(&signed, keys, &checks, NOW_MS) {
        assert_eq!(header["alg"], "HS256", "the key is for no other algorithm");
        assert!(header.get("crit").is_none());
        let ends = good.expires_unix_ms.expect("required");
        assert!(ends + checks.leeway.as_millis() as u64 > NOW_MS, "expired");
        assert_eq!(Some(&good.all), claims.as_object());
        assert_eq!(good.subject.as_deref(), claims["sub"].as_str());
    }
}

/// A set of keys as an issuer's address hands it out, or a PEM file.
pub fn keys(input: &[u8]) {
    let _ = Keys::public_pem(input);
    for with_secrets in [false, true] {
        if let Ok(keys) = Keys::jwks(input, with_secrets) {
            assert!(keys.len() <= input.len());
            let checks = Checks::new(Algorithm::ALL);
            for header in [
                r#"{"alg":"HS256"}"#,
                r#"{"alg":"RS256"}"#,
                r#"{"alg":"ES256"}"#,
            ] {
                let token = token_of(header);
                let keys = Keys::jwks(input, with_secrets).unwrap_or_default();
                let checked = verify(&token, &keys.try_all(true), &checks, NOW_MS);
                assert!(checked.is_err(), "an empty signature opens nothing");
            }
        }
    }
}

/// A token that nobody has signed.
fn token_of(header: &str) -> String {
    use base64::Engine as _;
    let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.", part(header), part(r#"{"exp":9999999999}"#))
}
