//! Options as they are written: every default of the contract's §1.8, and what is wrong, by its key.

use std::collections::BTreeSet;

use super::*;

const SECRET: &str = "a secret of the tests: 32 bytes and more";

fn settings(text: &str) -> Result<Settings, String> {
    let options: AirsendOptions = toml::from_str(text).map_err(|error| error.to_string())?;
    Settings::of(options).map_err(|error| error.to_string())
}

/// Contract §1.8, row by row.
#[test]
fn the_defaults() {
    let settings = settings(&format!("secret = \"{SECRET}\"")).expect("good");
    let options = &settings.options;
    let seconds = Duration::from_secs;
    assert_eq!(settings.session.ping, seconds(25));
    assert_eq!(settings.session.auth_deadline, seconds(10));
    assert_eq!(settings.session.typing_window, seconds(2));
    assert_eq!(options.message_bytes, 16 * 1024);
    assert_eq!(
        (settings.session.burst, settings.session.refill),
        (400, 100)
    );
    assert_eq!(options.queue_bytes, 4 * 1024 * 1024);
    assert_eq!(options.connections_per_user, 32);
    assert_eq!(options.presence_grace.0, seconds(0));
    assert_eq!(options.idempotency.0, seconds(24 * 3600));
    assert_eq!(options.connects_per_minute, 60);
    assert!(settings.session.apply && !settings.session.forward);
    assert!(settings.session.forward_to.is_none() && settings.ingest_key.is_none());
}

/// An empty text is "not set", as everywhere in the configuration.
#[test]
fn empty_texts() {
    let text = format!(
        "secret = \"{SECRET}\"\nsecret_file = \"\"\ningest_key = \"\"\ningest_key_file = \"\"\n\
         ws_endpoint = \"\"\nbearer_jwks_file = \"\"\nbearer_jwks_url = \"\"\nbearer_issuer = \"\"\n\
         bearer_audience = \"\"\nbearer_url = \"\"\nforward_to_url = \"\""
    );
    let settings = settings(&text).expect("good");
    assert!(settings.ws_endpoint.is_none() && settings.bearer_url.is_none());
}

#[test]
fn what_is_wrong_is_named() {
    let file = std::env::temp_dir().join(format!("tidings-empty-{}", std::process::id()));
    std::fs::write(&file, "\n").expect("written");
    let empty = format!("ingest_key_file = \"{}\"", file.display());
    for (line, key) in [
        ("secret = \"short\"", "secret"),
        ("secret = \"\"", "secret"),
        ("secret_file = \"/nowhere/at/all\"", "secret"),
        ("ingest_key_file = \"/nowhere/at/all\"", "ingest_key_file"),
        (&*empty, "ingest_key_file"),
        ("ws_endpoint = \"http://a\"", "ws_endpoint"),
        ("ws_endpoint = \"ws://a/path\"", "ws_endpoint"),
        ("ws_endpoint = \"\u{e4}\"", "ws_endpoint"),
        ("ws_endpoints = [\"ws://a\", \"b\"]", "ws_endpoints"),
        ("login = false", "login"),
        ("bearer_url = \"http://127.0.0.1:1\"", "login"),
        ("login = false\nbearer_url = \"gopher://a\"", "bearer_url"),
        ("login = false\nbearer_url = \"\u{e4} \"", "bearer_url"),
        ("forward_to_url = \"a\"", "forward_to_url"),
        ("ping = \"99ms\"", "ping"),
        ("ping = \"25\"", "ping"),
        ("ping = 25", "ping"),
        ("auth_deadline = \"0s\"", "auth_deadline"),
        ("write_stall = \"0s\"", "write_stall"),
        ("login_lifetime = \"0s\"", "login_lifetime"),
        ("bearer_lifetime = \"0s\"", "bearer_lifetime"),
        ("idempotency = \"0s\"", "idempotency"),
        ("message_lifetime = \"59s\"", "message_lifetime"),
        ("message_bytes = 255", "message_bytes"),
        ("message_bytes = 1048577", "message_bytes"),
        ("queue_bytes = 1000", "queue_bytes"),
        ("connections_per_user = 0", "connections_per_user"),
        ("connections_per_user = 201", "connections_per_user"),
        ("connects_per_minute = 0", "connects_per_minute"),
        ("command_burst = 0", "command_burst"),
        ("commands_per_second = 0", "commands_per_second"),
        ("origins = [\"a\\nb\"]", "origins"),
        ("colour = \"red\"", "colour"),
    ] {
        let text = match line.contains("secret") {
            true => line.to_owned(),
            false => format!("secret = \"{SECRET}\"\n{line}"),
        };
        let error = settings(&text)
            .err()
            .unwrap_or_else(|| panic!("{line} is taken"));
        assert!(error.contains(key), "{line}: {error}");
    }
    let both = format!(
        "secret = \"{SECRET}\"\nsecret_file = \"{}\"",
        file.display()
    );
    assert!(settings(&both).is_err_and(|error| error.contains("secret")));
    std::fs::write(&file, format!("{SECRET}\r\n")).expect("written");
    let good = format!("secret_file = \"{}\"", file.display());
    assert_eq!(
        settings(&good).map(|one| one.secret),
        Ok(SECRET.as_bytes().to_vec())
    );
    std::fs::remove_file(&file).expect("removed");
}

/// The commented example names every key, and every key that has a default with that.
#[test]
fn the_example_is_good_and_whole() {
    let text = include_str!("../../../../config/airsend.toml");
    let file: toml::Table = toml::from_str(text).expect("TOML");
    let table = file["adapters"]["airsend"].clone();
    let keys: BTreeSet<&String> = table.as_table().expect("a table").keys().collect();
    let unknown = toml::from_str::<AirsendOptions>("x = 1").expect_err("no such key");
    let known: BTreeSet<String> = unknown
        .to_string()
        .split('`')
        .skip(3)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    assert_eq!(keys, known.iter().collect(), "{unknown}");
    let options: AirsendOptions = table.try_into().expect("every key fits");
    let defaults = AirsendOptions::default();
    assert_eq!(options.login, defaults.login);
    assert_eq!(options.login_lifetime, defaults.login_lifetime);
    assert_eq!(options.bearer_lifetime, defaults.bearer_lifetime);
    assert_eq!(options.connects_per_minute, defaults.connects_per_minute);
    assert_eq!(options.ping, defaults.ping);
    assert_eq!(options.auth_deadline, defaults.auth_deadline);
    assert_eq!(options.typing_window, defaults.typing_window);
    assert_eq!(options.message_bytes, defaults.message_bytes);
    assert_eq!(options.command_burst, defaults.command_burst);
    assert_eq!(options.commands_per_second, defaults.commands_per_second);
    assert_eq!(options.queue_bytes, defaults.queue_bytes);
    assert_eq!(options.write_stall, defaults.write_stall);
    assert_eq!(options.connections_per_user, defaults.connections_per_user);
    assert_eq!(options.presence_grace, defaults.presence_grace);
    assert_eq!(options.idempotency, defaults.idempotency);
    assert_eq!(options.message_lifetime, defaults.message_lifetime);
    assert_eq!(options.origins, defaults.origins);
    assert_eq!(options.ws_endpoints, defaults.ws_endpoints);
    assert_eq!(options.apply_commands, defaults.apply_commands);
    assert_eq!(options.forward_to_topic, defaults.forward_to_topic);
}
