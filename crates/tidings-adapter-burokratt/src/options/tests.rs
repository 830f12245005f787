//! Options as they are written, and what is wrong with them.

use std::collections::BTreeSet;

use tidings_adapter::http::HeaderValue;

use super::*;

fn settings(text: &str) -> Result<Settings, String> {
    let options: BurokrattOptions = toml::from_str(text).map_err(|error| error.to_string())?;
    Settings::of(options).map_err(|error| error.to_string())
}

/// The commented example names every key with its default.
#[test]
fn the_example_is_whole_and_has_the_defaults() {
    let text = include_str!("../../../../config/burokratt.toml");
    let file: toml::Table = toml::from_str(text).expect("TOML");
    let table = file["adapters"]["burokratt"].clone();
    let unknown = toml::from_str::<BurokrattOptions>("x = 1")
        .map(drop)
        .expect_err("no such key")
        .to_string();
    let known: BTreeSet<&str> = unknown.split('`').skip(3).step_by(2).collect();
    let keys = table.as_table().expect("a table").keys();
    assert_eq!(keys.map(String::as_str).collect::<BTreeSet<_>>(), known);

    let written: BurokrattOptions = table.try_into().expect("every key fits");
    let refused = Settings::of(written.clone()).map(drop).expect_err("no TIM");
    assert!(refused.to_string().contains("`tim_url`"), "{refused}");
    let of = BurokrattOptions::default();
    for (written, default) in [
        (&written.tim_url, &of.tim_url),
        (&written.backend_key, &of.backend_key),
        (&written.logout_url, &of.logout_url),
    ] {
        assert_eq!((written.as_deref(), default.as_deref()), (Some(""), None));
    }
    assert_eq!(written.backend_key_file, Some(PathBuf::new()));
    // Without `..`: a new key is not forgotten here.
    let rest = |options: BurokrattOptions| {
        let BurokrattOptions {
            auth,
            tim_url: _,
            tim_timeout,
            tim_cache,
            recheck,
            chat_cookie,
            chat_cookie_lifetime,
            agent_cookie,
            tara_cookie,
            roles,
            backend_key: _,
            backend_key_file: _,
            backend_open,
            origins,
            body_bytes,
            retry,
            heartbeat,
            ended_grace,
            write_stall,
            chat_lifetime,
            ended_lifetime,
            termination,
            termination_max,
            logout_url: _,
            logout_after,
            waits,
            waits_window,
            wait_default,
            components,
            component_every,
            component_timeout,
            demo,
        } = options;
        let spans = [
            tim_timeout,
            tim_cache,
            recheck,
            chat_cookie_lifetime,
            retry,
            heartbeat,
            ended_grace,
            write_stall,
            chat_lifetime,
            ended_lifetime,
            termination,
            termination_max,
            logout_after,
            waits_window,
            wait_default,
            component_every,
            component_timeout,
        ];
        let texts = [chat_cookie, agent_cookie, tara_cookie];
        let lists = (roles, origins, components);
        (
            auth,
            (backend_open, demo),
            body_bytes,
            waits,
            spans,
            texts,
            lists,
        )
    };
    assert_eq!(rest(written), rest(of));
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
        ("auth = \"off\"\nrecheck = 10", "a duration such as"),
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
