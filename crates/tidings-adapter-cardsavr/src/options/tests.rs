//! Tables of good and bad configurations.

use super::*;

const GOOD: &str = r#"
    [integrators.acme-app]
    key = "KQY1TrLsywrPWEg65VcCn8Ww8F4/G3Z6kGc2wxsCjaQ="
    old_keys = ["YWJj"]
    [users.agent1]
    id = 11
    password_key = "ZyktYWyGXo3GSfuLaJtWRMEZ0I/C2oXzaCXLii7MVy0="
    [users.vbs]
    id = 12
    password_key = "ZyktYWyGXo3GSfuLaJtWRMEZ0I/C2oXzaCXLii7MVy0="
    role = "virtual_browser"
"#;

fn settings(more: &str) -> Result<Settings, OptionsError> {
    let options = toml::from_str(&format!("{more}\n{GOOD}")).expect("TOML that fits");
    Settings::of(&options)
}

#[test]
fn what_is_good() {
    let settings = settings("unsigned = true\nnonce_window = \"0s\"").expect("good");
    assert_eq!(
        settings
            .integrators
            .get("acme-app")
            .map(|one| one.keys.len()),
        Some(2)
    );
    assert!(settings.integrators.get("acme").is_none());
    let user = settings.users.named("agent1").expect("there");
    assert_eq!((user.id, user.role), (11, Role::CardholderAgent));
    assert_eq!(
        settings.users.get(12).map(|user| user.role),
        Some(Role::VirtualBrowser)
    );
    let text = format!("{settings:?}");
    assert!(!text.contains("Zykt") && !text.contains("KQY1"), "{text}");
}

#[test]
fn what_is_wrong_is_named() {
    for (more, key) in [
        ("session_idle = \"5s\"", "session_idle"),
        ("body_bytes = 3", "body_bytes"),
        ("origins = [\"a\\nb\"]", "origins"),
        ("webhook_url = \"nowhere\"", "webhook_url"),
        (
            "webhook_url = \"https://a.test/b\"\nwebhook_integrator = \"x\"",
            "webhook_integrator",
        ),
        ("timers.job = \"0s\"", "timers.job"),
        ("timers.tfa_failures = 0", "timers.tfa_failures"),
        ("[integrators.b]", "integrators.b.key"),
        ("[integrators.b]\nkey = \"?\"", "integrators.b.key"),
        (
            "[integrators.b]\nkey = \"\"\nkey_file = \"\"",
            "integrators.b.key",
        ),
        (
            "[integrators.b]\nkey_file = \"/nowhere/at/all\"",
            "integrators.b.key_file",
        ),
        ("[integrators.\" b\"]\nkey = \"YWJj\"", "integrators. b"),
        (
            "[users.b]\nid = 11\npassword_key = \"YWJj\"",
            "users.b.password_key",
        ),
        ("[users.b]\nid = 0", "users.b.id"),
        ("[users.b]\nid = 1", "users.b.password_key"),
        (
            "[users.b]\nid = 11\npassword_key = \"ZyktYWyGXo3GSfuLaJtWRMEZ0I/C2oXzaCXLii7MVy0=\"",
            "users.b.id",
        ),
    ] {
        match settings(more) {
            Err(OptionsError::Key { key: named, .. }) => assert_eq!(named, key, "{more}"),
            Ok(_) => panic!("{more} is taken"),
        }
    }
}

#[test]
fn the_only_integrator_signs_what_is_posted() {
    let settings = settings("webhook_url = \"https://a.test/b\"").expect("good");
    let webhook = settings.webhook.expect("there");
    assert_eq!(&*webhook.integrator.name, "acme-app");
}
