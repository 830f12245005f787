//! Configurations and the listeners they make, or what is wrong with them.

use super::*;
use crate::config::{Sources, load};

/// Loads a configuration for the adapters `a` and `b`.
fn planned(text: &str) -> Result<Vec<String>, Vec<String>> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    let sources = Sources {
        file: Some(file.path().to_owned()),
        adapters: vec!["a".to_owned(), "b".to_owned()],
        ..Sources::default()
    };
    let config = match load(&sources) {
        Ok(loaded) => loaded.config,
        Err(wrong) => {
            let lines = wrong
                .0
                .into_iter()
                .map(|one| format!("{}: {}", one.key, one.allowed));
            return Err(lines.collect());
        }
    };
    let listeners =
        plan(&config.server, &config.adapters, &sources.adapters).expect("it loads, so it fits");
    let shown = |listener: Listener| {
        let tls = match listener.tls {
            Tls::Off => "",
            Tls::Files { .. } => "+files",
            Tls::SelfSigned => "+self",
        };
        let places = listener.places.into_iter().map(|place| {
            let name = ["native", "a", "b"][place.who];
            let host = place.host.map_or("*".to_owned(), |host| host.0);
            format!(
                "{name}={host}{}",
                place.path.map_or(String::new(), |path| path.0)
            )
        });
        let places: Vec<_> = places.collect();
        format!("{}{tls} {}", listener.address.port(), places.join(" "))
    };
    Ok(listeners.into_iter().map(shown).collect())
}

#[test]
fn listeners() {
    let table: [(&str, &[&str]); 10] = [
        ("", &["8080 native=*", "8081 a=*", "8082 b=*"]),
        (
            "[server]\ntls_self_signed = true\n",
            &["8080+self native=*", "8081+self a=*", "8082+self b=*"],
        ),
        (
            "[server]\nlisten = \"127.0.0.1:0\"\n",
            &["0 native=*", "0 a=*", "0 b=*"],
        ),
        (
            "[adapters.a.mount]\npath = \"/a\"\n",
            &["8080 native=* a=*/a", "8082 b=*"],
        ),
        (
            "[adapters.a.mount]\nhost = \"A.Example\"\n[adapters.b.mount]\nhost = \"a.example\"\npath = \"/b/c\"\n",
            &["8080 native=* a=a.example b=a.example/b/c"],
        ),
        (
            "[adapters.a.mount]\nlisten = \"127.0.0.1:9\"\npath = \"/a\"\n\
             [adapters.b.mount]\nlisten = \"127.0.0.1:9\"\npath = \"/b\"\n",
            &["8080 native=*", "9 a=*/a b=*/b"],
        ),
        (
            "[server]\ntls_self_signed = true\n\
             [adapters.a.mount]\nlisten = \"127.0.0.1:9\"\n[adapters.b.mount]\nhost = \"b\"\n",
            &["8080+self native=* b=b", "9 a=*"],
        ),
        (
            "[adapters.a.mount]\nlisten = \"127.0.0.1:8080\"\npath = \"/a\"\n[adapters.b]\nkey = 1\n",
            &["8080 native=* a=*/a", "8082 b=*"],
        ),
        (
            "[server]\nlisten = \"127.0.0.1:7000\"\n\
             [adapters.a.mount]\nlisten = \"+4\"\ntls_self_signed = true\n",
            &["7000 native=*", "7004+self a=*", "7002 b=*"],
        ),
        (
            "[server]\nlisten = \"127.0.0.1:0\"\n\
             [adapters.a.mount]\nlisten = \"+4\"\ntls_self_signed = true\n",
            &["0 native=*", "0+self a=*", "0 b=*"],
        ),
    ];
    for (text, expected) in table {
        assert_eq!(
            planned(text).as_deref(),
            Ok(&expected
                .iter()
                .map(|one| (*one).to_owned())
                .collect::<Vec<_>>()[..]),
            "{text}"
        );
    }
}

#[test]
fn what_does_not_go_together() {
    let table = [
        (
            "[adapters.a.mount]\n",
            "adapters.a.mount: a listen address, host or path that is not `native`'s",
        ),
        (
            "[adapters.a.mount]\npath = \"/x\"\n[adapters.b.mount]\npath = \"/x\"\n",
            "adapters.b.mount: a listen address, host or path that is not `a`'s",
        ),
        (
            "[adapters.a.mount]\nlisten = \"127.0.0.1:8082\"\n",
            "adapters.b.mount: a listen address, host or path that is not `a`'s",
        ),
        (
            "[adapters.a.mount]\nlisten = \"127.0.0.1:9\"\ntls_self_signed = true\n\
             [adapters.b.mount]\nlisten = \"127.0.0.1:9\"\npath = \"/b\"\n",
            "adapters.b.mount.listen: an address that `a` does not listen on with another certificate",
        ),
        (
            "[adapters.a.mount]\npath = \"/metrics\"\n",
            "adapters.a.mount.path: another path: `/metrics`",
        ),
        (
            "[adapters.a.mount]\npath = \"/a\"\ntls_self_signed = true\n",
            "adapters.a.mount.listen: an address of its own",
        ),
        (
            "[server]\ntls_cert = \"x\"\n",
            "server.tls_cert: both tls_cert and tls_key",
        ),
        (
            "[server]\ntls_key = \"x\"\n",
            "server.tls_key: both tls_cert and tls_key",
        ),
        (
            "[server]\ntls_key = \"x\"\ntls_cert = \"x\"\ntls_self_signed = true\n",
            "server.tls_self_signed: either this or",
        ),
        (
            "[server]\ntls_key = \"/nonexistent\"\ntls_cert = \"/nonexistent\"\n",
            "server.tls_cert: a file that can be read",
        ),
        (
            "[adapters.a.mount]\npath = \"a\"\n",
            "adapters.a.mount.path: a path such as",
        ),
        (
            "[adapters.a.mount]\npath = \"/a/\"\n",
            "adapters.a.mount.path: a path such as",
        ),
        (
            "[adapters.a.mount]\npath = \"/a/../b\"\n",
            "adapters.a.mount.path: a path such as",
        ),
        (
            "[adapters.a.mount]\nhost = \"a:80\"\n",
            "adapters.a.mount.host: a host name",
        ),
        (
            "[adapters.a.mount]\nlisten = \"80\"\n",
            "adapters.a.mount.listen: an address such as",
        ),
        (
            "[adapters.a.mount]\nlisten = \"+0\"\n",
            "adapters.a.mount.listen: an address such as",
        ),
        (
            "[adapters.a.mount]\nlisten = \"+65536\"\n",
            "adapters.a.mount.listen: an address such as",
        ),
        (
            "[adapters.a.mount]\nlisten = \"+2\"\n",
            "adapters.b.mount: a listen address, host or path that is not `a`'s",
        ),
        (
            "[adapters.a.mount]\npaht = \"/a\"\n",
            "adapters.a.mount.paht: there is no such key; did you mean `path`?",
        ),
        (
            "[adapters.c]\nx = 1\n",
            "adapters.c: this binary has no such adapter",
        ),
        ("[adapters]\na = 5\n", "adapters.a: "),
    ];
    for (text, expected) in table {
        let found = planned(text).expect_err(text);
        assert!(
            found.len() == 1 && found[0].starts_with(expected),
            "{text}\n{found:?}"
        );
    }
}
