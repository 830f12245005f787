//! Options as they are written, and what is wrong with them.

use super::*;

fn settings(text: &str) -> Result<Settings, String> {
    let options: BurokrattOptions = toml::from_str(text).map_err(|error| error.to_string())?;
    Settings::of(options).map_err(|error| error.to_string())
}

#[test]
fn components_are_shown_in_their_order() {
    let settings = settings(
        "auth = \"off\"\norigins = [\"https://a.example/\"]\n\
         [[components]]\nname = \"X\"\nurl = \"http://x/healthz\"\n\
         [[components]]\nname = \"DMAPPER\"\nurl = \"http://d/healthz\"\n",
    )
    .expect("good");
    let names: Vec<(&str, bool)> = settings
        .components
        .iter()
        .map(|(name, url)| (name.as_str(), url.is_some()))
        .collect();
    assert_eq!(
        names,
        [
            ("TIM", false),
            ("RUUTER", false),
            ("DMAPPER", true),
            ("RESQL", false),
            ("X", true)
        ]
    );
    assert!(
        settings
            .origins
            .contain(&HeaderValue::from_static("https://a.example"))
    );
    assert!(
        !settings
            .origins
            .contain(&HeaderValue::from_static("https://b.example"))
    );
}

#[test]
fn what_is_wrong_is_said() {
    for (text, word) in [
        ("", "tim_url"),
        ("nonsense = 1", "unknown field"),
        ("auth = \"of\"", "unknown variant"),
        ("auth = \"off\"\ntim_url = \"http://a\"", "tim_url"),
        ("tim_url = \"tim\"", "tim_url"),
        ("tim_url = \"http://tim\"\nroles = []", "roles"),
        ("auth = \"off\"\nrecheck = \"10ms\"", "recheck"),
        ("auth = \"off\"\nrecheck = 10", "expected a string"),
        ("auth = \"off\"\nbody_bytes = 10", "body_bytes"),
        ("auth = \"off\"\nwaits = 0", "waits"),
        ("auth = \"off\"\nchat_lifetime = \"1m\"", "chat_lifetime"),
        ("auth = \"off\"\ntermination = \"2h\"", "termination_max"),
        ("auth = \"off\"\nchat_cookie = \"a;b\"", "chat_cookie"),
        ("auth = \"off\"\norigins = [\"a\"]", "origins"),
        ("auth = \"off\"\norigins = [\"https://a/b\"]", "origins"),
        ("auth = \"off\"\nbackend_key = \"short\"", "backend_key"),
        (
            "auth = \"off\"\nbackend_key_file = \"/no/such\"",
            "backend_key_file",
        ),
        ("auth = \"off\"\nlogout_url = \"x\"", "logout_url"),
        (
            "auth = \"off\"\n[[components]]\nname = \"\"\nurl = \"http://a\"",
            "components",
        ),
        (
            "auth = \"off\"\n[[components]]\nname = \"A\"\nurl = \"a\"",
            "components.A",
        ),
        (
            "auth = \"off\"\n[[components]]\nname = \"A\"\nurl = \"http://a\"\n[[components]]\nname = \"A\"\nurl = \"http://a\"",
            "twice",
        ),
    ] {
        let error = settings(text).map(|_| ()).expect_err(text);
        assert!(error.contains(word), "{text}: {error}");
    }
}

#[test]
fn spans_print_as_they_are_written() {
    for text in ["0s", "250ms", "10s", "5m", "1h", "30d", "90s"] {
        assert_eq!(
            Span::parse(text).map(|span| span.to_string()).as_deref(),
            Some(text)
        );
    }
}
