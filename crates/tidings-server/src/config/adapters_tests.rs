//! What an adapter's own keys may look like, and how they reach it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::values::{Size, Span};
use super::super::{Loaded, Secret, Sources, load};

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    title: String,
    cache: u32,
    offset: i64,
    ratio: f64,
    on: bool,
    ttl: Option<Span>,
    size: Option<Size>,
    token: String,
    secret: Option<Secret>,
    names: Vec<String>,
    ports: Vec<u16>,
    kind: Kind,
    users: Vec<User>,
    more: BTreeMap<String, u8>,
    icon_file: String,
    icon: String,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    #[default]
    Plain,
    Fancy,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    name: String,
    password: Option<String>,
}

fn sources(text: &str, environment: &[(&str, &str)]) -> (tempfile::NamedTempFile, Sources) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    let sources = Sources {
        file: Some(file.path().to_owned()),
        environment: environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        adapters: vec!["push-it".to_owned(), "b".to_owned()],
        ..Sources::default()
    };
    (file, sources)
}

fn loaded(text: &str, environment: &[(&str, &str)]) -> Loaded {
    let (_file, sources) = sources(text, environment);
    load(&sources).expect("what is the server's fits")
}

fn wrong(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let wrong = loaded(text, environment)
        .options::<Options>("push-it")
        .expect_err(text);
    let lines = wrong.0.into_iter();
    lines
        .map(|one| {
            format!(
                "{} = {} ({}): {}",
                one.key, one.value, one.source, one.allowed
            )
        })
        .collect()
}

#[test]
fn nothing_said_means_the_adapter_s_defaults() {
    assert_eq!(
        loaded("", &[]).options::<Options>("push-it"),
        Ok(Options::default())
    );
    let mounted = loaded("[adapters.push-it.mount]\npath = \"/p\"\n", &[]);
    assert_eq!(
        mounted.options::<Options>("push-it"),
        Ok(Options::default())
    );
}

#[test]
fn files_and_variables_take_the_types_of_the_adapter() {
    let text = "[adapters.push-it]\ntitle = \"t\"\ncache = 5\nttl = \"10s\"\nmore = { a = 1 }\n\
                [[adapters.push-it.users]]\nname = \"n\"\npassword = \"p\"\n\
                [adapters.push-it.mount]\npath = \"/p\"\n";
    let variables = [
        ("TIDINGS_ADAPTERS__PUSH_IT__CACHE", "7"),
        ("TIDINGS_ADAPTERS__PUSH_IT__OFFSET", "-3"),
        ("TIDINGS_ADAPTERS__PUSH_IT__RATIO", "0.5"),
        ("TIDINGS_ADAPTERS__PUSH_IT__ON", "true"),
        ("TIDINGS_ADAPTERS__PUSH_IT__TOKEN", "12345"),
        ("TIDINGS_ADAPTERS__PUSH_IT__SECRET", "true"),
        ("TIDINGS_ADAPTERS__PUSH_IT__NAMES", "a, b"),
        ("TIDINGS_ADAPTERS__PUSH_IT__PORTS", "[80, 443]"),
        ("TIDINGS_ADAPTERS__PUSH_IT__KIND", "fancy"),
        ("TIDINGS_ADAPTERS__PUSH_IT__MORE__B", "2"),
        ("TIDINGS_ADAPTERS__PUSH_IT__MOUNT__HOST", "p.example"),
    ];
    let loaded = loaded(text, &variables);
    let expected = Options {
        title: "t".into(),
        cache: 7,
        offset: -3,
        ratio: 0.5,
        on: true,
        ttl: Some(Span(std::time::Duration::from_secs(10))),
        token: "12345".into(),
        secret: Some(Secret::new("true")),
        names: vec!["a".into(), "b".into()],
        ports: vec![80, 443],
        kind: Kind::Fancy,
        users: vec![User {
            name: "n".into(),
            password: Some("p".into()),
        }],
        more: [("a".to_owned(), 1), ("b".to_owned(), 2)].into(),
        ..Options::default()
    };
    assert_eq!(loaded.options::<Options>("push-it"), Ok(expected));
    let mount = loaded.config.adapters["push-it"]
        .mount
        .clone()
        .expect("mounted");
    assert_eq!(mount.host.map(|host| host.0).as_deref(), Some("p.example"));
    let shown = loaded.to_string();
    assert!(shown.contains("adapters.push-it.cache = \"7\""), "{shown}");
    assert!(
        shown.contains("# TIDINGS_ADAPTERS__PUSH_IT__CACHE"),
        "{shown}"
    );
    assert!(
        shown.contains("adapters.push-it.token = \"***\""),
        "{shown}"
    );
    assert!(
        !shown.contains("12345") && !shown.contains("\"p\""),
        "{shown}"
    );
}

#[test]
fn a_secret_may_stand_in_a_file() {
    let secret = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(secret.path(), "hunter2\n").expect("written");
    let path = secret.path().display();
    let text = format!("[adapters.push-it]\ntoken_file = \"{path}\"\nicon_file = \"{path}\"\n");
    let options: Options = loaded(&text, &[]).options("push-it").expect("it fits");
    assert_eq!(options.token, "hunter2");
    assert_eq!(
        (options.icon_file, options.icon),
        (path.to_string(), String::new()),
        "a key of its own"
    );

    let both = format!("[adapters.push-it]\ntoken = \"hunter3\"\ntoken_file = \"{path}\"\n");
    let found = wrong(&both, &[]);
    assert!(
        found[0].contains("token_file") && found[0].contains("either this or token"),
        "{found:?}"
    );
    let found = wrong("[adapters.push-it]\ntoken_file = \"/nonexistent\"\n", &[]);
    assert!(found[0].contains("a file that can be read"), "{found:?}");
}

#[test]
fn what_does_not_fit_is_named_with_its_key_and_file() {
    let text = "[adapters.push-it]\ntitel = \"t\"\ncache = \"many\"\nttl = \"soon\"\nkind = \"odd\"\ntoken = 5551234\n\
                [[adapters.push-it.users]]\nnmae = \"n\"\n";
    let found = wrong(text, &[("TIDINGS_ADAPTERS__PUSH_IT__ON", "maybe")]);
    let expected = [
        ("adapters.push-it.titel", "did you mean `title`?"),
        ("adapters.push-it.cache", "u32"),
        ("adapters.push-it.ttl", "a duration above zero"),
        ("adapters.push-it.kind", "there are plain, fancy"),
        ("adapters.push-it.token", "a string"),
        ("adapters.push-it.on", "TIDINGS_ADAPTERS__PUSH_IT__ON"),
        ("adapters.push-it.users", "did you mean `name`?"),
    ];
    for (key, said) in expected {
        assert!(
            found
                .iter()
                .any(|one| one.starts_with(key) && one.contains(said)),
            "{key}: {said}\nin {found:#?}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    assert!(!format!("{found:?}").contains("5551234"), "{found:?}");
}

#[test]
fn others_are_passed_over_when_it_is_said_that_there_may_be_others() {
    let text = "[adapters.c]\nx = 1\n[adapters.push-it]\ncache = 1\n";
    let (_file, mut sources) = sources(text, &[("TIDINGS_ADAPTERS__D__X", "1")]);
    let found = load(&sources).expect_err("nobody knows c and d").0;
    assert_eq!(found.len(), 2, "{found:?}");
    sources.other_adapters = true;
    let options: Options = load(&sources)
        .expect("fits")
        .options("push-it")
        .expect("fits");
    assert_eq!(options.cache, 1);
}
