//! The contract's test vectors, and what must not open.

use super::seal::Opening;
use super::*;

const INTEGRATOR: &str = "KQY1TrLsywrPWEg65VcCn8Ww8F4/G3Z6kGc2wxsCjaQ=";
const SESSION: &str = "60WaazDXDrTA3c006pbtWej40YQ8It2JWrYDqhPZqB0=";

fn key(text: &str) -> Key {
    Key::parse(text).expect("32 bytes")
}

#[test]
fn passwords() {
    let stored = PasswordKey::of("agent1", "pw-agent1");
    assert_eq!(
        stored.print(),
        "ZyktYWyGXo3GSfuLaJtWRMEZ0I/C2oXzaCXLii7MVy0="
    );
    assert_eq!(hash_password("agent1", "pw-agent1"), stored.print());
    let integrator = key(INTEGRATOR);
    let proof = "xuxKYH3IKbIlRkqDyl3Uf1L/W8QEysVnDCOQ6fGK5G8=";
    assert_eq!(stored.proof(&integrator), proof);
    assert!(stored.is_proved(&integrator, proof));
    for bad in ["", "x", "AAAA", &proof[1..], &proof.to_lowercase()] {
        assert!(!stored.is_proved(&integrator, bad), "{bad}");
    }
    assert!(!PasswordKey::NOBODY.is_proved(&integrator, proof));
    assert!(stored.is(&PasswordKey::parse(&stored.print()).expect("good")));
    assert!(!stored.is(&PasswordKey::of("agent2", "pw-agent1")));
}

#[test]
fn exchanges() {
    let (client, server) = (
        Exchange::with_private(&[1; 32]),
        Exchange::with_private(&[2; 32]),
    );
    let publics = (
        client.public().expect("there"),
        server.public().expect("there"),
    );
    assert_eq!(
        publics.0,
        "BG/wO5SSQc4drdQ1GeaWDgqFtBppoFwygQOqK84VlMoWPE91OlW/AdxT9sCwx+7ni0DG/30lqW4igrmJzvccFEo="
    );
    assert_eq!(
        publics.1,
        "BFUPRxAD89+Xw99QaseX9nIfsaH7e49vg9IkSYplyI4kE2CT1wEuUJpzcVy9CwCjzA/0tcAbP/oZarH7MnA2uOY="
    );
    assert_eq!(
        client.agree(&publics.1).map(|key| key.print()).as_deref(),
        Some(SESSION)
    );
    assert_eq!(
        server.agree(&publics.0).map(|key| key.print()).as_deref(),
        Some(SESSION)
    );
    let point = STANDARD.decode(&publics.0).expect("base64");
    let mut off = point.clone();
    off[64] ^= 1;
    let mut compressed = point[..33].to_vec();
    compressed[0] = 2;
    for bad in [
        &point[..64],
        &point[1..],
        &off,
        &compressed,
        &[4; 65],
        &[0; 1],
        &[],
    ] {
        assert!(server.agree(&STANDARD.encode(bad)).is_none(), "{bad:?}");
    }
    assert!(server.agree("?").is_none());
}

#[test]
fn signatures() {
    let session = key(SESSION);
    let authorization = authorization("acme-app");
    let signed = |target, body| Signed {
        target,
        authorization: &authorization,
        nonce: "1700000000000",
        body,
    };
    let jobs = signed("/place_card_on_single_site_jobs?ids=1,2&q=a b", b"");
    let signature = "PHywDtRq1cm+LcIaIwISyp/ntxijETh1wC0mLer0IbI=";
    assert_eq!(jobs.sign(&session), signature);
    assert!(jobs.is_signed(&session, signature));
    let body = br#"{"encrypted_body":"9oEP6qALzVxk2F3FPmkMhw==$AwMDAwMDAwMDAwMDAwMDAw=="}"#;
    let path = "/messages/place_card_on_single_site_jobs/101/broadcasts/registrations";
    assert_eq!(
        signed(path, body).sign(&session),
        "gVZWT2fVbuZ30zAXrCKwMk6cjT+GhZxC4S/AVpzbgIA="
    );
    assert!(!signed("/other", b"").is_signed(&session, signature));
    assert!(!jobs.is_signed(&key(INTEGRATOR), signature));
    for bad in ["", "=", "AAAA", &signature[4..]] {
        assert!(!jobs.is_signed(&session, bad), "{bad}");
    }
}

#[test]
fn short_and_long_keys() {
    let short = Key::padded(b"abc");
    assert_eq!(
        short.sign(&[b"x"]),
        "7sSL3CFKidv/CKDi8SCDox+OYqJIqYD3jFxaH5SpT88="
    );
    let long: Vec<u8> = (0..40).collect();
    assert_eq!(Key::padded(&long).print(), Key::padded(&long[..32]).print());
}

#[test]
fn sealed_and_opened() {
    let session = key(SESSION);
    let clear = br#"{"job_id":101}"#;
    let sealed = Sealing::Cbc.seal(&session, clear, [3; 16]).expect("sealed");
    let body = envelope(&sealed);
    assert_eq!(
        body,
        r#"{"encrypted_body":"9oEP6qALzVxk2F3FPmkMhw==$AwMDAwMDAwMDAwMDAwMDAw=="}"#
    );
    for sealing in [Sealing::Cbc, Sealing::Gcm] {
        for length in [0, 1, 15, 16, 17, 1000] {
            let clear = vec![7; length];
            let sealed = sealing.seal(&session, &clear, random()).expect("sealed");
            let parsed = Sealed::of_body(envelope(&sealed).as_bytes()).expect("its form");
            assert_eq!(parsed.sealing, sealing);
            assert_eq!(parsed.clone().open(&session), Ok(clear));
            assert!(
                parsed.open(&key(INTEGRATOR)).is_err() || length == 0 || sealing == Sealing::Cbc
            );
        }
    }
}

#[test]
fn what_has_not_the_form() {
    let iv = STANDARD.encode([3; 16]);
    let short_iv = STANDARD.encode([3; 12]);
    let block = STANDARD.encode([9; 16]);
    for bad in [
        String::new(),
        "$".to_owned(),
        block.clone(),
        format!("{block}${short_iv}"),
        format!("{block}$"),
        format!("${iv}"),
        format!("?{block}${iv}"),
        format!("{}${iv}", STANDARD.encode([9; 15])),
        format!("{block}${iv}$aes-128-cbc"),
        format!("{block}${iv}$aes-256-gcm"),
        format!("{block}${short_iv}$aes-256-gcm$x"),
        format!("{}${short_iv}$aes-256-gcm", STANDARD.encode([9; 15])),
        format!("{block}${iv}$"),
    ] {
        assert_eq!(Sealed::parse(&bad), None, "{bad}");
    }
    for bad in [
        "",
        "{}",
        "[]",
        "null",
        r#"{"encrypted_body":3}"#,
        r#"{"encrypted_body":"x"}"#,
    ] {
        assert_eq!(Sealed::of_body(bad.as_bytes()), None, "{bad}");
    }
}

#[test]
fn what_does_not_open() {
    let session = key(SESSION);
    let gcm = Sealing::Gcm
        .seal(&session, b"secret", [5; 16])
        .expect("sealed");
    let mut changed = Sealed::parse(&gcm).expect("its form");
    changed.flip();
    assert_eq!(changed.open(&session), Err(Opening));
    // CBC with a bad padding: the last block's last byte becomes another one.
    let cbc = Sealing::Cbc
        .seal(&session, &[0; 16], [5; 16])
        .expect("sealed");
    let mut changed = Sealed::parse(&cbc).expect("its form");
    changed.flip();
    assert_eq!(changed.open(&session), Err(Opening));
}
