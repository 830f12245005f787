//! What the repository says of a dialect's configuration, held against its code.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use tidings_adapter_airsend::{Airsend, AirsendOptions};
use tidings_adapter_cardsavr::CardsavrOptions;

/// `config/airsend.toml` names every key with its default. (Zaikio's file is held to it in its crate.)
#[test]
fn airsends_example_is_whole_and_has_the_defaults() {
    let text = include_str!("../../../config/airsend.toml");
    let file: toml::Table = toml::from_str(text).expect("TOML");
    let table = file["adapters"]["airsend"].clone();
    let unknown = toml::from_str::<AirsendOptions>("x = 1").expect_err("no such key");
    let unknown = unknown.to_string();
    let known: BTreeSet<&str> = unknown.split('`').skip(3).step_by(2).collect();
    let keys = table.as_table().expect("a table").keys();
    assert_eq!(keys.map(String::as_str).collect::<BTreeSet<_>>(), known);

    let written: AirsendOptions = table.try_into().expect("every key fits");
    let unset = |text: Option<String>| assert_eq!(text.as_deref(), Some(""));
    let no_file = |path: Option<std::path::PathBuf>| assert!(path.is_some_and(|p| p == *""));
    // Without `..`: a new key is not forgotten here.
    let AirsendOptions {
        secret,
        secret_file,
        ingest_key,
        ingest_key_file,
        ws_endpoint,
        ws_endpoints,
        login,
        login_lifetime,
        bearer_jwks_file,
        bearer_jwks_url,
        bearer_issuer,
        bearer_audience,
        bearer_url,
        bearer_lifetime,
        connects_per_minute,
        ping,
        auth_deadline,
        typing_window,
        message_bytes,
        command_burst,
        commands_per_second,
        queue_bytes,
        write_stall,
        connections_per_user,
        presence_grace,
        idempotency,
        message_lifetime,
        origins,
        apply_commands,
        forward_to_topic,
        forward_to_url,
    } = written;
    for text in [
        secret,
        ingest_key,
        ws_endpoint,
        bearer_jwks_url,
        bearer_issuer,
        bearer_audience,
        bearer_url,
        forward_to_url,
    ] {
        unset(text);
    }
    for path in [secret_file, ingest_key_file, bearer_jwks_file] {
        no_file(path);
    }
    let of = AirsendOptions::default();
    assert_eq!(
        (ws_endpoints, origins),
        (of.ws_endpoints.clone(), of.origins.clone())
    );
    assert_eq!(
        (login, apply_commands, forward_to_topic),
        (of.login, of.apply_commands, of.forward_to_topic)
    );
    for (written, default) in [
        (login_lifetime, of.login_lifetime),
        (bearer_lifetime, of.bearer_lifetime),
        (ping, of.ping),
        (auth_deadline, of.auth_deadline),
        (typing_window, of.typing_window),
        (write_stall, of.write_stall),
        (presence_grace, of.presence_grace),
        (idempotency, of.idempotency),
        (message_lifetime, of.message_lifetime),
    ] {
        assert_eq!(written, default);
    }
    assert_eq!(
        (connects_per_minute, command_burst, commands_per_second),
        (
            of.connects_per_minute,
            of.command_burst,
            of.commands_per_second
        )
    );
    assert_eq!(
        (message_bytes, queue_bytes, connections_per_user),
        (of.message_bytes, of.queue_bytes, of.connections_per_user)
    );
}

/// The file needs a secret, and nothing else.
#[tokio::test]
async fn airsends_example_starts_with_a_secret() {
    let text = include_str!("../../../config/airsend.toml");
    let file: toml::Table = toml::from_str(text).expect("TOML");
    let table = file["adapters"]["airsend"].clone();
    let mut options: AirsendOptions = table.try_into().expect("every key fits");
    let refused = Airsend::new(options.clone()).map(drop);
    assert!(
        refused
            .expect_err("no secret")
            .to_string()
            .contains("`secret`")
    );
    options.secret = Some("a secret of the tests: 32 bytes and more".to_owned());
    assert!(Airsend::new(options).is_ok());
}

/// The defaults of presence: contract §1.8, a lease of 10 s, a beat every 3 s, a sweep every second.
#[test]
fn the_hubs_lease_has_its_defaults() {
    let loaded = crate::config::load(&crate::config::Sources::default()).expect("the defaults fit");
    let instance = loaded.config.instance;
    let limits = tidings_adapter::Limits::default();
    assert_eq!(instance.beat_every.0, limits.beat_every);
    assert_eq!(instance.lease.0, limits.lease);
    assert_eq!(instance.sweep_every.0, limits.sweep_every);
}

/// The names in the message of serde that there is no such key.
fn known<T: DeserializeOwned>() -> BTreeSet<String> {
    let unknown = toml::from_str::<T>("x = 1").map(drop);
    let unknown = unknown.expect_err("no such key").to_string();
    let names = unknown.split('`').skip(3).step_by(2);
    names.map(str::to_owned).collect()
}

fn keys(table: &toml::Value) -> BTreeSet<String> {
    table.as_table().expect("a table").keys().cloned().collect()
}

/// `config/cardsavr.toml` names every key with its default.
#[test]
fn cardsavrs_example_is_good_and_whole() {
    let text = include_str!("../../../config/cardsavr.toml");
    let file: toml::Table = toml::from_str(text).expect("TOML");
    let mut table = file["adapters"]["cardsavr"].clone();
    let own = table.as_table_mut().expect("a table");
    own.remove("mount").expect("it says where it listens");
    assert_eq!(keys(&table), known::<CardsavrOptions>());
    assert_eq!(
        keys(&table["timers"]),
        known::<tidings_adapter_cardsavr::Timers>()
    );
    let options: CardsavrOptions = table.try_into().expect("every key fits");
    assert_eq!(options.integrators.len(), 1);
    assert_eq!(options.users.len(), 2);
    // What is not set is an empty text there.
    let example = CardsavrOptions {
        integrators: Default::default(),
        users: Default::default(),
        webhook_url: options.webhook_url.filter(|url| !url.is_empty()),
        webhook_integrator: options.webhook_integrator.filter(|name| !name.is_empty()),
        ..options
    };
    let defaults = CardsavrOptions::default();
    assert_eq!(format!("{example:?}"), format!("{defaults:?}"));
}
