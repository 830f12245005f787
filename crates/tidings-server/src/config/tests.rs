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
    assert!(config.server.tls_cert.is_none() && !config.server.tls_self_signed);
    assert_eq!(config.server.connections_per_address.get(), 0);
    assert!(config.adapters.is_empty());
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
                "lease",
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
fn clients_are_told_to_leave_within_the_grace() {
    let text = "[server]\ndrain_delay = \"0s\"\ndrain_spread = \"0s\"\nshutdown_grace = \"1s\"\n";
    let (_file, sources) = with_file(text, &[]);
    let server = load(&sources).expect("fits").config.server;
    assert!(server.drain_delay.0.is_zero() && server.drain_spread.0.is_zero());
    let longest = [("TIDINGS_SERVER__DRAIN_SPREAD", "20s")];
    let expected = (
        "server.drain_spread".to_owned(),
        "a duration below server.shutdown_grace".to_owned(),
    );
    let found = mistakes(&self::sources(&longest));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].0.starts_with(&expected.0) && found[0].1.contains(&expected.1),
        "{found:?}"
    );
}

#[test]
fn a_lease_outlasts_a_lost_beat() {
    let table = [
        ("BEAT_EVERY", "5s", None),
        (
            "BEAT_EVERY",
            "6s",
            Some(("instance.lease", "at least twice")),
        ),
        ("LEASE", "6s", None),
        ("LEASE", "5s", Some(("instance.lease", "at least twice"))),
        ("LEASE", "10m", None),
        ("LEASE", "11m", Some(("instance.lease", "up to \"10m\""))),
        ("SWEEP_EVERY", "10s", None),
        (
            "SWEEP_EVERY",
            "11s",
            Some(("instance.sweep_every", "up to instance.lease")),
        ),
        (
            "SWEEP_EVERY",
            "0s",
            Some(("instance.sweep_every", "a duration above zero")),
        ),
    ];
    for (key, value, expected) in table {
        let variable = format!("TIDINGS_INSTANCE__{key}");
        let sources = sources(&[(variable.as_str(), value)]);
        match expected {
            None => assert!(load(&sources).is_ok(), "{key} = {value}"),
            Some((key, allowed)) => {
                let found = mistakes(&sources);
                assert_eq!(found.len(), 1, "{found:?}");
                assert!(
                    found[0].0.starts_with(key) && found[0].1.contains(allowed),
                    "{found:?}"
                );
            }
        }
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

#[test]
fn what_is_shown_of_an_instance_can_be_set() {
    let config = load(&Sources::default()).expect("the defaults fit").config;
    assert_eq!(
        config.telemetry.otlp_endpoint, None,
        "nothing leaves by itself"
    );
    assert_eq!(config.telemetry.metrics_listen, None);
    let loaded = load(&sources(&[
        ("TIDINGS_TELEMETRY__OTLP_ENDPOINT", "http://c:4317"),
        ("TIDINGS_TELEMETRY__OTLP_SAMPLE", "12.5%"),
        ("TIDINGS_TELEMETRY__INSTANCE_ID", "7"),
        ("TIDINGS_TELEMETRY__RESOURCE", "a=1, b=2"),
        ("TIDINGS_TELEMETRY__METRICS_LISTEN", "[::1]:9464"),
        ("TIDINGS_READINESS__PROBE_EVERY", "1s"),
    ]))
    .expect("fits");
    let telemetry = loaded.config.telemetry;
    let endpoint = telemetry.otlp_endpoint.map(|endpoint| endpoint.0);
    assert_eq!(endpoint.as_deref(), Some("http://c:4317"));
    assert_eq!(telemetry.otlp_sample, Share(0.125));
    assert_eq!(telemetry.instance_id.as_deref(), Some("7"));
    assert_eq!(telemetry.resource.len(), 2);
    assert_eq!(telemetry.metrics_listen.map(|one| one.0.port()), Some(9464));
    let wrong = mistakes(&sources(&[
        ("TIDINGS_TELEMETRY__OTLP_ENDPOINT", "c:4317"),
        ("TIDINGS_TELEMETRY__OTLP_SAMPLE", "0.01"),
        ("TIDINGS_TELEMETRY__RESOURCE", "a"),
    ]));
    let keys: Vec<&str> = wrong.iter().map(|(key, _)| key.as_str()).collect();
    for key in ["otlp_endpoint", "otlp_sample", "resource"] {
        assert!(
            keys.iter().any(|one| one.contains(key)),
            "{key} in {wrong:#?}"
        );
    }
}

#[test]
fn issuers_are_checked_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let secret = file("secret", "hunter2 and 25 bytes more of them\n");
    let (short, set) = (file("short", "hunter2"), file("set", "{\"keys\":[]}"));
    let good = "name = \"a\"\nalgorithms = [\"HS256\"]\n\
                secret = \"hunter2 hunter2 hunter2 hunter2 \"\nread = [\"tenant/{sub}/**\"]\n"
        .to_owned();
    let table = format!(
        "[[issuers]]\n{good}\n[[issuers]]\nname = \"b\"\nissuer = \"https://b\"\naudience = [\"x\"]\n\
         algorithms = [\"RS256\", \"ES256\"]\njwks_url = \"https://b.example/keys\"\nleeway = \"0s\"\n\
         publish = [\"o/{{claim:org}}/*\"]\npublish_per_second = 5\nburst = 9\n"
    );
    let (_file, sources) = with_file(&table, &[]);
    let loaded = load(&sources).expect("fits");
    let [a, b] = loaded.config.issuers.as_slice() else {
        panic!("two issuers");
    };
    assert_eq!(a.rights_claim, "tidings");
    assert_eq!(a.leeway.0.as_secs(), 5);
    assert_eq!((b.publish_per_second.get(), b.burst.get()), (5, 9));
    let shown = format!("{loaded}{:?}", loaded.config);
    assert!(!shown.contains("hunter2"), "{shown}");

    let key = |line: &str| format!("{}\n{line}\n", good.replace("secret = ", "#"));
    let with = |line: &str| format!("{good}{line}\n");
    let wrong = [
        (key(""), "issuers[a].jwks_url", "exactly one of"),
        (
            with("jwks_url = \"https://x/y\""),
            "issuers[a].jwks_url",
            "exactly one of",
        ),
        (
            key("jwks_url = \"ftp://x/y\""),
            "issuers[a].jwks_url",
            "an address such as",
        ),
        (
            key("jwks_url = \"https://x/y\""),
            "issuers[a].algorithms",
            "with public keys",
        ),
        (key(&format!("secret_file = \"{secret}\"")), "", ""),
        (
            key(&format!("secret_file = \"{short}\"")),
            "issuers[a].secret_file",
            "32 bytes",
        ),
        (key("secret = \"hunter2\""), "issuers[a].secret", "32 bytes"),
        (
            key("jwks_file = \"/nowhere\""),
            "issuers[a].jwks_file",
            "No such file",
        ),
        (
            key(&format!("jwks_file = \"{short}\"")),
            "issuers[a].jwks_file",
            "Key Set",
        ),
        (key(&format!("jwks_file = \"{set}\"")), "", ""),
        (
            key(&format!("public_key_file = \"{set}\"")).replace("HS256", "ES256"),
            "issuers[a].public_key_file",
            "PEM",
        ),
        (
            with("tls_ca = \"x\""),
            "issuers[a].tls_ca",
            "only with jwks_url",
        ),
        (
            with("burst = 1"),
            "issuers[a].burst",
            "only with publish_per_second",
        ),
        (
            with("publish = [\"a{sub}\"]"),
            "issuers[a].publish[0]",
            "{sub} or {claim:NAME}",
        ),
        (
            with("colour = 1"),
            "issuers[a].colour",
            "there is no such key",
        ),
        (
            good.replace("HS256", "none"),
            "issuers[a].algorithms[0]",
            "\"HS256\"",
        ),
        (
            good.replace("[\"HS256\"]", "[]"),
            "issuers[a].algorithms",
            "with a secret",
        ),
        (good.replace("read", "#"), "issuers[a].read", "open nothing"),
        (
            format!("{good}[[issuers]]\n{good}"),
            "issuers",
            "two issuers are named",
        ),
    ];
    for (text, key, allowed) in wrong {
        let (_file, sources) = with_file(&format!("[[issuers]]\n{text}"), &[]);
        let result = load(&sources);
        if key.is_empty() {
            assert!(result.is_ok(), "{text}: {result:?}");
            continue;
        }
        let mistakes = result.expect_err(&text);
        assert!(!mistakes.to_string().contains("hunter2"), "{mistakes}");
        let found = |one: &Mistake| one.key.starts_with(key) && one.allowed.contains(allowed);
        assert!(
            mistakes.0.iter().any(found),
            "{key}: {allowed}\nin {mistakes}"
        );
    }
    let keys = "[[keys]]\nname = \"a\"\nkey = \"k\"\nread = [\"a\"]\nburst = 1\n";
    let (_file, sources) = with_file(keys, &[]);
    assert!(
        mistakes(&sources)[0]
            .1
            .contains("only with publish_per_second")
    );
}

#[test]
fn what_a_publish_waits_for_is_a_known_level_and_bounded() {
    let (_file, wrong) = with_file(
        "[api]\ndurability = \"safe\"\ndurability_timeout = \"61s\"\n[redis]\ndurability_replicas = 0",
        &[],
    );
    let found = mistakes(&wrong);
    for (key, allowed) in [
        (
            "api.durability",
            "\"stored\", \"replicated\" or \"fsynced\"",
        ),
        ("redis.durability_replicas", "a whole number from 1 to 64"),
    ] {
        let named = found.iter().any(|(k, a)| k == key && a == allowed);
        assert!(named, "{key}: {found:?}");
    }
    let (_file, late) = with_file("[api]\ndurability_timeout = \"61s\"", &[]);
    assert_eq!(mistakes(&late)[0].0, "api.durability_timeout");
    let (_file, good) = with_file("[api]\ndurability = \"replicated\"", &[]);
    let config = load(&good).expect("it fits").config;
    let durability = config.api.durability.0;
    assert_eq!(durability, tidings_core::Durability::Replicated);
    assert_eq!(config.redis.durability_replicas.get(), 1);
}
