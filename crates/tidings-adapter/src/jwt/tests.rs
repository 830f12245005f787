//! Tables for the pure core: every way in which a token can be bad, and the keys of a set.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const NOW_S: u64 = 1_700_000_000;

struct Pair {
    key: SigningKey,
    pem: String,
}

fn rsa() -> &'static Pair {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(|| pair(Algorithm::Rs256))
}

fn ec() -> &'static Pair {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(|| pair(Algorithm::Es256))
}

fn pair(algorithm: Algorithm) -> Pair {
    let (key, pem) = SigningKey::generate(algorithm).expect("made");
    Pair { key, pem }
}

fn set(keys: &[&SigningKey]) -> Value {
    let keys: Vec<Value> = keys
        .iter()
        .map(|key| key.public_jwk().expect("public"))
        .collect();
    json!({ "keys": keys })
}

fn jwks(set: &Value) -> Keys {
    Keys::jwks(set.to_string().as_bytes(), true).expect("a set")
}

fn claims() -> Value {
    json!({"sub": "alice", "exp": NOW_S + 60})
}

fn check(token: &str, keys: &Keys, checks: &Checks) -> Result<Claims, TokenError> {
    verify(token, keys, checks, NOW_S * 1000)
}

fn all() -> Checks {
    Checks::new(Algorithm::ALL)
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// The PEM of a public half.
fn public_pem(key: &SigningKey) -> String {
    let jwk = key.public_jwk().expect("public");
    let bytes = |name: &str| {
        let text = jwk[name].as_str().expect("there");
        URL_SAFE_NO_PAD.decode(text).expect("base64")
    };
    let der = |tag: u8, content: &[u8]| {
        let mut der = vec![tag];
        match content.len() {
            length @ 0..=127 => der.push(length as u8),
            length => der.extend([0x82, (length >> 8) as u8, length as u8]),
        }
        der.extend(content);
        der
    };
    let bits = |content: &[u8]| der(3, &[&[0][..], content].concat());
    let info = if key.algorithm() == Algorithm::Es256 {
        let ids = [
            &[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1][..],
            &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7],
        ];
        let point = [&[4][..], &bytes("x"), &bytes("y")].concat();
        [der(0x30, &ids.concat()), bits(&point)].concat()
    } else {
        let id = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
        let integers = [
            der(2, &[&[0][..], &bytes("n")].concat()),
            der(2, &bytes("e")),
        ];
        [der(0x30, &id), bits(&der(0x30, &integers.concat()))].concat()
    };
    let text = base64::engine::general_purpose::STANDARD.encode(der(0x30, &info));
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
}

#[test]
fn each_algorithm_signs_and_verifies() {
    let secret = SigningKey::secret(SECRET).expect("long enough");
    let table = [
        (&secret, Keys::secret(SECRET).expect("long enough")),
        (&rsa().key, jwks(&set(&[&rsa().key, &ec().key]))),
        (&ec().key, jwks(&set(&[&rsa().key, &ec().key]))),
        (
            &rsa().key,
            Keys::public_pem(public_pem(&rsa().key).as_bytes()).expect("a key"),
        ),
        (
            &ec().key,
            Keys::public_pem(public_pem(&ec().key).as_bytes()).expect("a key"),
        ),
    ];
    for (key, keys) in table {
        for kid in [key.kid(), None] {
            let token = key.sign(&claims(), kid.as_deref()).expect("signed");
            let found = check(&token, &keys, &all()).expect("good");
            assert_eq!(found.subject.as_deref(), Some("alice"));
            assert_eq!(found.expires_unix_ms, Some((NOW_S + 60) * 1000));
        }
    }
}

#[test]
fn an_algorithm_is_accepted_when_it_is_listed_and_fits_the_key() {
    let keys = jwks(&set(&[&rsa().key, &ec().key]));
    let pem = public_pem(&rsa().key);
    let kid = rsa().key.kid();
    // The public key as an HMAC secret: the attack that made this a rule (RFC 8725 §2.1).
    let confused = SigningKey::secret(pem.as_bytes()).expect("long enough");
    let confused = confused.sign(&claims(), kid.as_deref()).expect("signed");
    let only_pem = Keys::public_pem(pem.as_bytes()).expect("a key");
    assert_eq!(check(&confused, &keys, &all()), Err(TokenError::Algorithm));
    assert_eq!(
        check(&confused, &only_pem, &all()),
        Err(TokenError::UnknownKey)
    );
    let rs256 = Checks::new([Algorithm::Rs256]);
    assert_eq!(check(&confused, &keys, &rs256), Err(TokenError::Algorithm));
    // One key's name with another key's algorithm.
    let swapped = ec().key.sign(&claims(), kid.as_deref()).expect("signed");
    assert_eq!(check(&swapped, &keys, &all()), Err(TokenError::Algorithm));
    // Signed well, but not in a way that this issuer signs.
    let good = ec().key.sign(&claims(), None).expect("signed");
    assert_eq!(check(&good, &keys, &rs256), Err(TokenError::Algorithm));
    for name in [
        "none", "None", "NONE", "", "HS384", "RS512", "PS256", "EdDSA", "hs256",
    ] {
        let header = json!({"alg": name, "kid": kid});
        for signature in ["", "AA", good.rsplit('.').next().expect("there")] {
            let token = format!("{}.{}.{signature}", part(&header), part(&claims()));
            assert_eq!(check(&token, &keys, &all()), Err(TokenError::Algorithm));
        }
    }
}

#[test]
fn keys_in_the_token_are_not_looked_at() {
    let stranger = pair(Algorithm::Rs256).key;
    let keys = jwks(&set(&[&rsa().key]));
    let jwk = stranger.public_jwk().expect("public");
    let url = "https://evil.example/keys";
    for header in [
        json!({"alg": "RS256", "jwk": jwk}),
        json!({"alg": "RS256", "jku": url, "kid": jwk["kid"]}),
        json!({"alg": "RS256", "x5u": url, "x5c": ["AAAA"], "kid": rsa().key.kid()}),
    ] {
        let token = stranger.sign_with_header(&header, &claims());
        let error = check(&token.expect("signed"), &keys, &all()).expect_err("foreign");
        assert!(
            matches!(error, TokenError::Signature | TokenError::UnknownKey),
            "{error}"
        );
    }
}

#[test]
fn what_was_changed_after_signing_is_refused() {
    let keys = jwks(&set(&[&rsa().key]));
    let token = rsa().key.sign(&claims(), None).expect("signed");
    let parts: Vec<&str> = token.split('.').collect();
    let root = part(&json!({"sub": "root", "exp": NOW_S + 60}));
    let table = [
        (
            format!("{}.{root}.{}", parts[0], parts[2]),
            TokenError::Signature,
        ),
        (format!("{}.{}.", parts[0], parts[1]), TokenError::Signature),
        (
            format!("{}.{}.AAAA", parts[0], parts[1]),
            TokenError::Signature,
        ),
        (format!("{}.{}", parts[0], parts[1]), TokenError::Malformed),
        (format!("{token}.{}", parts[2]), TokenError::Malformed),
        (
            format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
            TokenError::Malformed,
        ),
        (format!("{token} "), TokenError::Signature),
        (String::new(), TokenError::Malformed),
        ("..".to_owned(), TokenError::Malformed),
        ("a.b.c".to_owned(), TokenError::Malformed),
        ("ä.ö.ü".to_owned(), TokenError::Malformed),
        ("e30.e30.e30".to_owned(), TokenError::Malformed),
    ];
    for (token, expected) in table {
        assert_eq!(check(&token, &keys, &all()), Err(expected), "{token}");
    }
    let short = Checks {
        max_token_bytes: token.len() - 1,
        ..all()
    };
    assert_eq!(check(&token, &keys, &short), Err(TokenError::Malformed));
    for header in [
        json!({"alg": "RS256", "crit": ["b64"], "b64": false}),
        json!({"alg": "RS256", "kid": 7}),
        json!({"alg": 7}),
        json!({}),
        json!([]),
    ] {
        let token = rsa().key.sign_with_header(&header, &claims());
        let token = token.expect("signed");
        assert_eq!(check(&token, &keys, &all()), Err(TokenError::Malformed));
    }
}

#[test]
fn claims_are_checked_at_the_time_given() {
    let keys = Keys::secret(SECRET).expect("long enough");
    let key = SigningKey::secret(SECRET).expect("long enough");
    let checks = Checks {
        issuer: Some("me".to_owned()),
        audience: vec!["hub".to_owned(), "other".to_owned()],
        leeway: Duration::from_secs(5),
        ..all()
    };
    use TokenError::{Claim, Expired, NotYetValid};
    let table = [
        (json!({}), None),
        (json!({"exp": NOW_S - 4}), None),
        (json!({"exp": NOW_S - 5}), Some(Expired)),
        (json!({"exp": 0}), Some(Expired)),
        (json!({"exp": NOW_S as f64 - 4.5}), None),
        (json!({"exp": null}), Some(Claim("exp"))),
        (json!({"exp": "tomorrow"}), Some(Claim("exp"))),
        (json!({"exp": -1}), Some(Claim("exp"))),
        (json!({"exp": 1e300}), Some(Claim("exp"))),
        (json!({"exp": u64::MAX}), Some(Claim("exp"))),
        (json!({"nbf": NOW_S + 5}), None),
        (json!({"nbf": NOW_S + 6}), Some(NotYetValid)),
        (json!({"nbf": "x"}), Some(Claim("nbf"))),
        (json!({"iat": NOW_S + 5}), None),
        (json!({"iat": NOW_S + 6}), Some(NotYetValid)),
        (json!({"iat": []}), Some(Claim("iat"))),
        (json!({"iss": "you"}), Some(Claim("iss"))),
        (json!({"iss": ["me"]}), Some(Claim("iss"))),
        (json!({"iss": null}), Some(Claim("iss"))),
        (json!({"aud": "other"}), None),
        (json!({"aud": ["x", "hub"]}), None),
        (json!({"aud": ["x"]}), Some(Claim("aud"))),
        (json!({"aud": []}), Some(Claim("aud"))),
        (json!({"aud": [7]}), Some(Claim("aud"))),
        (json!({"aud": "Hub"}), Some(Claim("aud"))),
        (json!({"sub": 7}), Some(Claim("sub"))),
    ];
    for (change, expected) in table {
        let mut claims = json!({"iss": "me", "aud": "hub", "sub": "a", "exp": NOW_S + 60});
        for (name, value) in change.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        let token = key.sign(&claims, None).expect("signed");
        assert_eq!(check(&token, &keys, &checks).err(), expected, "{change}");
    }
    for (missing, expected) in [("iss", "iss"), ("aud", "aud"), ("exp", "exp")] {
        let mut claims = json!({"iss": "me", "aud": "hub", "exp": NOW_S + 60});
        claims.as_object_mut().expect("an object").remove(missing);
        let token = key.sign(&claims, None).expect("signed");
        assert_eq!(check(&token, &keys, &checks), Err(Claim(expected)));
    }
    let without = Checks {
        require_exp: false,
        ..all()
    };
    let token = key.sign(&json!({}), None).expect("signed");
    assert!(check(&token, &keys, &without).is_ok());
}

#[test]
fn a_token_finds_its_key() {
    let (old, new) = (pair(Algorithm::Es256).key, pair(Algorithm::Es256).key);
    let both = set(&[&old, &new]);
    let token = |key: &SigningKey, kid: Option<&str>| key.sign(&claims(), kid).expect("signed");
    let (kid, new_kid) = (old.kid(), new.kid());
    let (kid, new_kid) = (kid.as_deref(), new_kid.as_deref());
    let stranger = pair(Algorithm::Es256).key;
    use TokenError::{Signature, UnknownKey};
    let table = [
        // The token, and what is said of it: normally, and when every key is tried.
        (token(&old, kid), None, None),
        (token(&new, new_kid), None, None),
        (token(&new, kid), Some(Signature), Some(Signature)),
        (token(&old, None), Some(UnknownKey), None),
        (token(&new, Some("x")), Some(UnknownKey), None),
        (
            token(&stranger, Some("x")),
            Some(UnknownKey),
            Some(UnknownKey),
        ),
        (token(&stranger, None), Some(UnknownKey), Some(Signature)),
    ];
    let (keys, tries) = (jwks(&both), jwks(&both).try_all(true));
    for (at, (token, plain, trying)) in table.iter().enumerate() {
        assert_eq!(check(token, &keys, &all()).err(), *plain, "{at}");
        assert_eq!(
            check(token, &tries, &all()).err(),
            *trying,
            "{at}, trying all"
        );
    }
}

#[test]
fn sets_are_taken_as_far_as_they_can_be_used() {
    let good = ec().key.public_jwk().expect("public");
    let other = |change: Value| {
        let mut key = good.clone();
        for (name, value) in change.as_object().expect("an object") {
            key[name] = value.clone();
        }
        key
    };
    let rsa_1024 = URL_SAFE_NO_PAD.encode([0xff; 128]);
    let secret = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET)});
    let unusable = [
        other(json!({"use": "enc"})),
        other(json!({"key_ops": ["sign"]})),
        other(json!({"alg": "ES384"})),
        other(json!({"crv": "P-384"})),
        other(json!({"kty": "OKP", "crv": "Ed25519"})),
        other(json!({"x": "AAAA"})),
        other(json!({"kid": 7})),
        json!({"kty": "RSA", "n": rsa_1024, "e": "AQAB"}),
        json!({"kty": "oct", "k": "c2hvcnQ"}),
        json!({"kty": "new"}),
        json!(7),
    ];
    let mut keys: Vec<Value> = unusable.to_vec();
    keys.push(other(json!({"key_ops": ["verify"], "alg": "ES256"})));
    keys.push(secret);
    let set = json!({"keys": keys, "more": true}).to_string();
    assert_eq!(
        Keys::jwks(set.as_bytes(), true).map(|keys| keys.len()),
        Ok(2)
    );
    // What an address hands out is public, and so would the secret be.
    assert_eq!(
        Keys::jwks(set.as_bytes(), false).map(|keys| keys.len()),
        Ok(1)
    );
    for text in ["", "{}", "[]", "<html>", r#"{"keys":{}}"#, r#"{"keys":7}"#] {
        let error = Keys::jwks(text.as_bytes(), true).expect_err("no set");
        assert_eq!(error, KeyError::NotASet, "{text}");
    }
    assert!(jwks(&json!({"keys": []})).is_empty());
}

#[test]
fn other_pems_are_refused() {
    let public = public_pem(&rsa().key);
    for text in [
        rsa().pem.clone(),
        ec().pem.clone(),
        public.replace("PUBLIC KEY", "CERTIFICATE"),
        public.replace("PUBLIC KEY", "EC PUBLIC KEY"),
        public.replace('A', "B"),
        format!("{public}{}", rsa().pem),
        "hello".to_owned(),
        String::new(),
    ] {
        let error = Keys::public_pem(text.as_bytes()).expect_err("not a public key");
        assert_eq!(error, KeyError::NotPem);
    }
    assert!(SigningKey::private_pem(public.as_bytes()).is_err());
    assert!(SigningKey::private_pem(b"-----BEGIN PRIVATE KEY-----").is_err());
    assert!(Keys::secret(&SECRET[1..]).is_err() && SigningKey::secret(&SECRET[1..]).is_err());
}

#[test]
fn nothing_secret_is_shown() {
    let secret = std::str::from_utf8(SECRET).expect("ASCII");
    let key = SigningKey::secret(SECRET).expect("long enough");
    let token = key.sign(&claims(), None).expect("signed");
    let keys = Keys::secret(SECRET).expect("long enough");
    let parsed = Unverified::parse(&token, 1000).expect("parses");
    let found = check(&token, &keys, &all()).expect("good");
    let source = KeySource::secret(SECRET);
    let shown = format!("{key:?} {keys:?} {parsed:?} {found:?} {source:?}");
    let signature = token.rsplit('.').next().expect("there");
    for hidden in [secret, "alice", &token, signature] {
        assert!(!shown.contains(hidden), "{shown}");
    }
}
