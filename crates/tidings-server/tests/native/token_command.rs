//! `tidings token` as a real process: what it makes is taken, what it finds is said by exit codes.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::command_line::{Said, tidings};
use crate::common::{send, start};

async fn run(arguments: &[&str]) -> Said {
    tidings(arguments, &[], "").await
}

/// A token, as it is printed.
async fn mint(arguments: &[&str]) -> String {
    let said = run(&[&["token", "mint"], arguments].concat()).await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    said.out.trim().to_owned()
}

#[tokio::test]
async fn keys_and_tokens_that_are_made_are_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (first, second, rsa, set) = (at("a.pem"), at("b.pem"), at("c.pem"), at("keys.json"));
    for (out, algorithm) in [(&first, "ES256"), (&second, "ES256"), (&rsa, "RS256")] {
        let arguments = [
            "token",
            "keygen",
            "--algorithm",
            algorithm,
            "--out",
            out,
            "--jwks",
            &set,
        ];
        let said = run(&arguments).await;
        assert_eq!(said.code, Some(0), "{}", said.err);
        let mode = std::fs::metadata(out)
            .expect("written")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let keys: Value = serde_json::from_slice(&std::fs::read(&set).expect("written")).expect("JSON");
    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(3));
    assert!(
        !keys.to_string().contains("\"d\""),
        "private halves stay private"
    );
    let again = run(&["token", "keygen", "--out", &first]).await;
    assert_eq!(again.code, Some(2), "no key is written over");
    let config = format!(
        "[[issuers]]\nname = \"mine\"\nissuer = \"me\"\naudience = [\"hub\"]\n\
         algorithms = [\"ES256\", \"RS256\"]\njwks_file = \"{set}\"\nread = [\"tenant/{{sub}}/*\"]\n"
    );
    let file = at("tidings.toml");
    std::fs::write(&file, &config).expect("written");
    for key in [&first, &second, &rsa] {
        let token = mint(&[
            "--private-key",
            key,
            "--sub",
            "a",
            "--iss",
            "me",
            "--aud",
            "hub",
        ])
        .await;
        let said = run(&["token", "inspect", &token, "--config", &file]).await;
        assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
        for expected in ["\"sub\": \"a\"", "expires 20", " min\n", "tenant/a/*"] {
            assert!(said.out.contains(expected), "{expected}: {}", said.out);
        }
        let config = ["token", "inspect", "--config", &file];
        let other = mint(&["--private-key", key, "--sub", "a", "--iss", "me"]).await;
        let said = tidings(&config, &[], &format!("{other}\n")).await;
        assert_eq!(said.code, Some(1));
        assert!(said.err.contains("claim `aud`"), "{}", said.err);
    }
}

#[tokio::test]
async fn a_secret_mints_what_a_server_takes() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "a shared secret of 32 bytes or more\n").expect("written");
    let path = secret.display().to_string();
    let config = format!(
        "[[issuers]]\nname = \"mine\"\nalgorithms = [\"HS256\"]\nsecret_file = \"{path}\"\nread = [\"**\"]\n"
    );
    let server = start(&config).await;
    // The instance's clock stands still in the past, and a token is made now.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("after 1970");
    let behind = now.as_millis() as u64 - server.instance.hub().now().unix_ms;
    server
        .clock
        .advance(std::time::Duration::from_millis(behind));
    let claim = ["--claim", "org=42", "--claim", "name=x y"];
    let token = mint(&[&["--secret-file", &path, "--read", "demo/*"][..], &claim].concat()).await;
    for (topic, expected) in [("demo/a", 200), ("other/a", 403)] {
        let path = format!("/v1/topics/{topic}?access_token={token}");
        let answer = send(server.address, "GET", &path, &[], "").await;
        assert_eq!(answer.status, expected, "{topic}: {}", answer.text());
    }
    let said = run(&["token", "inspect", &token]).await;
    assert_eq!(said.code, Some(1));
    assert!(said.out.contains("\"org\": 42") && said.out.contains("\"name\": \"x y\""));
    assert!(said.out.contains("no issuer is configured"), "{}", said.out);
}

#[tokio::test]
async fn development_tokens_are_for_development() {
    let token = mint(&[
        "--dev", "--sub", "alice", "--read", "demo/**", "--ttl", "10m",
    ])
    .await;
    let said = run(&["token", "inspect", &token, "--dev"]).await;
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    assert!(said.out.contains("demo/**"), "{}", said.out);
    assert_eq!(run(&["token", "inspect", &token]).await.code, Some(1));
    for wrong in [
        &["mint"][..],
        &["mint", "--dev", "--ttl", "soon"],
        &["mint", "--dev", "--read", "a**"],
        &["mint", "--dev", "--claim", "x"],
        &["mint", "--secret-file", "/nowhere"],
        &["keygen", "--algorithm", "HS256", "--out", "/nowhere/key"],
        &["keygen", "--out", "/nowhere/key"],
    ] {
        let said = run(&[&["token"], wrong].concat()).await;
        assert_eq!(said.code, Some(2), "{wrong:?}: {}", said.err);
    }
    let said = run(&["token", "inspect", "no token", "--dev"]).await;
    assert_eq!(said.code, Some(1), "{}", said.err);
}
