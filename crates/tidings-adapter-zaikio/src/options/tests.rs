//! Options as they are written, and what is wrong with them.

use super::*;

fn settings(text: &str) -> Result<Settings, String> {
    let options: ZaikioOptions = toml::from_str(text).map_err(|error| error.to_string())?;
    Settings::of(&options.without_empty()).map_err(|error| error.to_string())
}

#[test]
fn an_empty_table_has_every_default() {
    let settings = settings("issuer = \"\"\npublish_rate = \"\"").expect("good");
    assert!(settings.publish_rate.is_none());
    assert!(settings.session.check_expiry);
    assert_eq!(settings.session.ack_wait, Duration::from_secs(30));
    assert_eq!(settings.command_bytes, 65_536);
    assert_eq!(settings.websocket_paths, ["/websocket", "/cable"]);
}

/// The commented example names every key with its default.
#[test]
fn the_example_is_good_and_whole() {
    let text = include_str!("../../../../config/zaikio.toml");
    let file: toml::Table = toml::from_str(text).expect("TOML");
    let table = file["adapters"]["zaikio"].clone();
    let keys: BTreeSet<&String> = table.as_table().expect("a table").keys().collect();
    let unknown = toml::from_str::<ZaikioOptions>("x = 1")
        .map(|_| ())
        .expect_err("no such key");
    let known: BTreeSet<String> = unknown
        .to_string()
        .split('`')
        .skip(3)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    assert_eq!(keys, known.iter().collect(), "{unknown}");
    let options: ZaikioOptions = table.try_into().expect("every key fits");
    let options = options.without_empty();
    let defaults = ZaikioOptions::default();
    assert_eq!(options.leeway, defaults.leeway);
    assert_eq!(options.ack_wait, defaults.ack_wait);
    assert_eq!(options.ack_wait_max, defaults.ack_wait_max);
    assert_eq!(options.consumer_lifetime, defaults.consumer_lifetime);
    assert_eq!(options.revoked_every, defaults.revoked_every);
    assert_eq!(options.command_bytes, defaults.command_bytes);
    assert_eq!(options.write_stall, defaults.write_stall);
    assert_eq!(options.websocket_paths, defaults.websocket_paths);
    assert_eq!(options.events_path, defaults.events_path);
    assert_eq!(options.publish_rate, defaults.publish_rate);
    assert_eq!(options.jwks_url, None);
    assert!(Settings::of(&options).is_ok());
}

#[test]
fn apps_are_understood() {
    let settings = settings(
        "[apps.mission_control]\npassword = \"secret\"\nprovides = [\"job_added\", \"mission_control.job_updated\"]\n\
         [apps.my_app]\nsubscriptions = [\"mission_control.job_added\"]\n\
         subjects = [\"Org/837ebb91-2d4b-4818-a19b-04fea7be8cde\"]\n",
    )
    .expect("good");
    let app = settings.apps.get("mission_control").expect("there");
    assert!(app.provides.contains("mission_control.job_added"));
    assert!(
        settings
            .apps
            .publisher("mission_control", b"secret")
            .is_some()
    );
    assert!(
        settings
            .apps
            .publisher("mission_control", b"other")
            .is_none()
    );
    assert!(settings.apps.publisher("my_app", b"").is_none());
}

#[test]
fn what_is_wrong_is_said() {
    for (text, word) in [
        ("nonsense = 1", "unknown field"),
        ("leeway = \"11s\"", "leeway"),
        ("leeway = 11", "expected a duration"),
        ("command_bytes = 1", "command_bytes"),
        ("publish_rate = \"300/min\"", "300reqs/60s"),
        ("default_app = \"x\"", "default_app"),
        ("websocket_paths = [\"cable\"]", "websocket_paths"),
        ("websocket_paths = [\"/api/v1/events\"]", "websocket_paths"),
        ("[apps.\"a b\"]", "technical name"),
        ("[apps.a]\nprovides = [\"b.c\"]", "apps.a.provides"),
        (
            "[apps.a]\nsubscriptions = [\"b,c\"]",
            "apps.a.subscriptions",
        ),
        ("[apps.a]\nsubjects = [\"b\"]", "apps.a.subjects"),
        (
            "[apps.a]\npassword_sha256 = \"b\"",
            "apps.a.password_sha256",
        ),
        (
            "[apps.a]\npassword_file = \"/no/such/file\"",
            "apps.a.password_file",
        ),
        (
            "[apps.a]\npassword = \"b\"\npassword_sha256 = \"c\"",
            "apps.a.password",
        ),
    ] {
        let error = settings(text).map(|_| ()).expect_err(text);
        assert!(error.contains(word), "{text}: {error}");
    }
}
