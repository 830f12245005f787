//! Tables for the configuration's layers: what wins, what is wrong, and what is never shown.

use super::*;

fn sources(environment: &[(&str, &str)]) -> Sources {
    Sources {
        environment: environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..Sources::default()
    }
}

fn with_file(text: &str, environment: &[(&str, &str)]) -> (tempfile::NamedTempFile, Sources) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    let sources = Sources {
        file: Some(file.path().to_owned()),
        ..sources(environment)
    };
    (file, sources)
}

/// key, part of what is allowed
fn mistakes(sources: &Sources) -> Vec<(String, String)> {
    let wrong = load(sources).expect_err("something is wrong").0;
    wrong.into_iter().map(|m| (m.key, m.allowed)).collect()
}

#[test]
fn the_defaults_are_whole_and_closed() {
    let loaded = load(&Sources::default()).expect("the defaults fit");
    let config = loaded.config;
    assert_eq!(config.server.listen.0.to_string(), "127.0.0.1:8080");
    assert_eq!(config.log.retention.0.as_secs(), 3600);
    assert!(config.keys.is_empty(), "no key is known");
    assert!(config.api.anonymous_publish.is_empty() && config.api.anonymous_read.is_empty());
    assert!(config.api.cors_origins.is_empty());
    assert!(config.redis.url.is_none());
}

#[test]
fn every_key_has_its_comment() {
    // Each line with a key has a comment above it, or shares the one of the line above.
    let mut commented = false;
    for line in layers::DEFAULTS.lines() {
        if line.is_empty() || line.starts_with('[') {
            commented = false;
        } else if line.starts_with('#') {
            commented = true;
        } else {
            let shared = [
                "password ",
                "response_timeout",
                "tls_cert",
                "tls_key",
                "page_bytes",
            ];
            let known = commented
                || shared.iter().any(|key| line.starts_with(key))
                || line.starts_with("sentinel_")
                || line.starts_with("anonymous_");
            assert!(known, "no comment says what `{line}` does");
        }
    }
}

#[test]
fn the_last_source_wins() {
    let text = "[server]\nlisten = \"127.0.0.1:1\"\nbody_max = \"1MiB\"\n[redis]\nprefix = \"f\"";
    let (_file, mut sources) = with_file(
        text,
        &[
            ("TIDINGS_SERVER__LISTEN", "127.0.0.1:2"),
            ("TIDINGS_REDIS__PREFIX", "e"),
            ("PATH", "/bin"),
        ],
    );
    sources.flags = vec![("server.listen", "--listen", "127.0.0.1:3".to_owned())];
    let loaded = load(&sources).expect("fits");
    assert_eq!(loaded.config.server.listen.0.port(), 3);
    assert_eq!(loaded.config.server.body_max.0, 1 << 20);
    assert_eq!(loaded.config.redis.prefix, "e");
    let shown = loaded.to_string();
    let line = |key: &str| {
        let line = shown.lines().find(|line| line.starts_with(key)).expect(key);
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        line("server.listen"),
        "server.listen = \"127.0.0.1:3\" # --listen"
    );
    assert_eq!(
        line("redis.prefix"),
        "redis.prefix = \"e\" # TIDINGS_REDIS__PREFIX"
    );
    assert_eq!(line("log.partitions"), "log.partitions = 16 # defaults");
    assert!(line("server.body_max").contains(sources.file.expect("set").to_str().expect("UTF-8")));
}

#[test]
fn variables_take_the_type_of_their_key() {
    let loaded = load(&sources(&[
        ("TIDINGS_REDIS__PASSWORD", "12345"),
        ("TIDINGS_REDIS__USERNAME", "true"),
        ("TIDINGS_LOG__PARTITIONS", "4"),
        ("TIDINGS_INGEST__ENABLED", "false"),
        ("TIDINGS_API__ANONYMOUS_READ", "a/*, b/**"),
        ("TIDINGS_API__CORS_ORIGINS", "[\"https://a.example\"]"),
        ("TIDINGS_KEYS", "[{name=\"n\", key=\"k\", read=[\"**\"]}]"),
    ]))
    .expect("fits");
    let config = loaded.config;
    assert_eq!(config.redis.password, Some(Secret::new("12345")));
    assert_eq!(config.redis.username.as_deref(), Some("true"));
    assert_eq!(config.log.partitions.get(), 4);
    assert!(!config.ingest.enabled);
    assert_eq!(config.api.anonymous_read.len(), 2);
    assert_eq!(config.api.cors_origins.len(), 1);
    assert_eq!(config.keys[0].name, "n");
}

#[test]
fn every_mistake_is_named_with_what_is_allowed() {
    let text = "[server]\nlisten = \"8080\"\nbody_max = 5\nlisten_on = 1\nsend_buffer = \"64KB\"\n\
                [log]\npartitions = 0\n[sever]\nx = 1\n[redis]\ntls_cert = \"x\"\nprefix = \"{a}\"\n\
                [ingest]\nenabled = \"yes\"\n[limits]\npage_bytes = \"2MiB\"\n\
                [[keys]]\nname = \"a\"\nkey = \"k\"\nraed = [\"**\"]\n\
                [[keys]]\nname = \"b\"\nkey = \"k\"\nread = [\"a**\"]\n\
                [[keys]]\nname = \"c\"\nread = [\"a\"]\n";
    let (_file, sources) = with_file(
        text,
        &[
            ("TIDINGS_REDIS_URL", "redis://x"),
            ("TIDINGS_LOG__RETENTION", "1 day"),
            ("TIDINGS_API__HEARTBEAT", "0s"),
        ],
    );
    let found = mistakes(&sources);
    let expected = [
        ("TIDINGS_REDIS_URL", "did you mean `TIDINGS_REDIS__URL`?"),
        ("server.listen_on", "did you mean `listen`?"),
        ("sever", "did you mean `server`?"),
        ("server.listen", "an address such as"),
        ("server.body_max", "a size above zero"),
        ("server.send_buffer", "a size above zero"),
        ("log.partitions", "a whole number from 1 to 256"),
        ("log.retention", "a duration above zero"),
        ("api.heartbeat", "a duration above zero"),
        ("ingest.enabled", "a boolean"),
        ("keys[a].raed", "did you mean `read`?"),
        ("keys[b].read[0]", "a pattern of topics"),
        ("redis.tls_cert", "both tls_cert and tls_key"),
        ("redis.prefix", "without braces"),
        ("limits.page_bytes", "up to \"1MiB\""),
        ("keys[c].key", "exactly one of"),
    ];
    for (key, allowed) in expected {
        assert!(
            found
                .iter()
                .any(|(k, a)| k.starts_with(key) && a.contains(allowed)),
            "{key}: {allowed}\nin {found:#?}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn a_file_that_is_no_toml_or_not_there_is_named() {
    let (file, sources) = with_file("[server\n", &[]);
    let found = mistakes(&sources);
    assert!(
        found[0].0.contains(file.path().to_str().expect("UTF-8"))
            && found[0].1.contains("is not TOML")
    );
    drop(file);
    assert!(mistakes(&sources)[0].1.contains("cannot be read"));
}

#[test]
fn variables_of_others_are_left_alone() {
    let alone = [
        ("TIDINGS_SERVICE_HOST", "10.0.0.1"),
        ("TIDINGS_SERVICE_PORT", "80"),
        ("TIDINGS_SERVICE_PORT_HTTP", "80"),
        ("TIDINGS_PORT", "tcp://10.0.0.1:80"),
        ("TIDINGS_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("TIDINGS_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("TIDINGS_REDIS_SERVICE_HOST", "10.0.0.1"),
        ("TIDINGS_REDIS_PORT_6379_TCP_PROTO", "tcp"),
        ("TIDINGS_URL", "http://x"),
        ("TIDINGS_KEY", "k"),
        ("TIDINGSX", "k"),
    ];
    assert!(load(&sources(&alone)).is_ok());
    for wrong in [
        "TIDINGS_",
        "TIDINGS_SERVER",
        "TIDINGS_LISTEN",
        "TIDINGS_SERVER__PORT",
        "TIDINGS_REDIS_URL",
    ] {
        assert_eq!(mistakes(&sources(&[(wrong, "x")])).len(), 1, "{wrong}");
    }
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let secret = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(secret.path(), "hunter2\n").expect("written");
    let path = secret.path().display();
    let text = format!(
        "[redis]\nurl = \"redis://u:hunter3@h:1/0\"\npassword_file = \"{path}\"\nsentinel_password = \"hunter4\"\n\
         [[keys]]\nname = \"a\"\nkey = \"hunter5\"\nread = [\"**\"]\n\
         [[keys]]\nname = \"b\"\nkey_file = \"{path}\"\nread = [\"**\"]\n"
    );
    let (_file, sources) = with_file(&text, &[]);
    let loaded = load(&sources).expect("fits");
    assert_eq!(loaded.config.redis.password, Some(Secret::new("hunter2")));
    assert_eq!(loaded.config.keys[1].key, Some(Secret::new("hunter2")));
    let shown = format!("{loaded}{:?}", loaded.config);
    assert!(!shown.contains("hunter"), "{shown}");
    assert!(shown.contains("redis://u:***@h:1/0"), "{shown}");

    let (_file, sources) = with_file(&format!("{text}raed = [\"hunter6\"]\nkey = 7\n"), &[]);
    let (_file, other) = with_file(
        "[redis]\npassword = 5551234\npassword_file = \"x\"\nurl = \"redis://:hunter9@\"\nblock=\"x\"",
        &[],
    );
    for sources in [sources, other] {
        let shown = load(&sources).expect_err("wrong").to_string();
        assert!(
            !shown.contains("hunter2") && !shown.contains("hunter9") && !shown.contains("5551234"),
            "{shown}"
        );
    }
}

#[test]
fn passwords_are_cut_out_of_addresses() {
    let table = [
        ("redis://h:1", "redis://h:1"),
        ("redis://:p@h", "redis://:***@h"),
        ("redis://u:p@h:1/0?x=1", "redis://u:***@h:1/0?x=1"),
        ("redis://u:p/w@h:1", "redis://u:***@h:1"),
        (
            "redis://u:p@a,redis://u:q@b",
            "redis://u:***@a,redis://u:***@b",
        ),
        ("h:1", "h:1"),
    ];
    for (text, expected) in table {
        assert_eq!(report::without_password(text), expected);
    }
}

#[test]
fn development_mode_adds_its_key_and_can_be_narrowed() {
    let text = "[[keys]]\nname = \"mine\"\nkey = \"m\"\nread = [\"**\"]\n";
    let (_file, mut sources) = with_file(text, &[]);
    sources.usual_file = sources.file.take();
    sources.dev = true;
    let config = load(&sources).expect("fits").config;
    let names: Vec<&str> = config.keys.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(names, ["mine", "dev"]);
    assert_eq!(config.api.cors_origins, [Origin::Any]);
    assert!(config.api.anonymous_publish.is_empty());
    sources.environment = vec![("TIDINGS_API__CORS_ORIGINS".into(), String::new())];
    let config = load(&sources).expect("fits").config;
    assert!(config.api.cors_origins.is_empty());
}
