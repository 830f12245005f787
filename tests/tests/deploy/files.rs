//! Reading the files of `deploy/`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value};
use yaml_rust2::{Yaml, YamlLoader};

/// The folder.
pub(crate) fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// Paths of all files in it, relative to it. What an operator keeps there (`.env`, `secrets/`) is not ours to read.
pub(crate) fn in_deploy() -> Result<Vec<String>> {
    let mut files = Vec::new();
    let mut folders = vec![deploy()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_name() == "secrets" {
                continue;
            }
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(deploy())?.display().to_string());
            }
        }
    }
    Ok(files)
}

/// A file's text.
pub(crate) fn text(path: &str) -> Result<String> {
    std::fs::read_to_string(deploy().join(path)).with_context(|| path.to_owned())
}

/// A JSON file.
pub(crate) fn json(path: &str) -> Result<Value> {
    Ok(serde_json::from_str(&text(path)?)?)
}

/// A YAML file of one document, as JSON; `<<` is merged, as Compose does it.
pub(crate) fn yaml(path: &str) -> Result<Value> {
    let documents = YamlLoader::load_from_str(&text(path)?)?;
    ensure!(
        documents.len() == 1,
        "{path}: {} documents",
        documents.len()
    );
    plain(&documents[0]).with_context(|| path.to_owned())
}

fn plain(yaml: &Yaml) -> Result<Value> {
    Ok(match yaml {
        Yaml::String(text) => Value::from(text.as_str()),
        Yaml::Integer(number) => Value::from(*number),
        Yaml::Real(number) => Value::from(number.parse::<f64>()?),
        Yaml::Boolean(is) => Value::from(*is),
        Yaml::Null => Value::Null,
        Yaml::Array(list) => list.iter().map(plain).collect::<Result<Vec<_>>>()?.into(),
        Yaml::Hash(members) => {
            let (mut merged, mut own) = (Map::new(), Map::new());
            for (key, value) in members {
                let key = key.as_str().context("a key that is no text")?;
                match (key, plain(value)?) {
                    ("<<", Value::Object(other)) => merged.extend(other),
                    (key, value) => drop(own.insert(key.to_owned(), value)),
                }
            }
            merged.extend(own);
            merged.into()
        }
        Yaml::Alias(_) | Yaml::BadValue => bail!("an alias of nothing"),
    })
}

/// The texts of a list; nothing when it is none.
pub(crate) fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// A time as these files write it: `30s`.
pub(crate) fn seconds(text: &str) -> Result<Duration> {
    let number = text.strip_suffix('s').with_context(|| text.to_owned())?;
    Ok(Duration::from_secs(number.parse()?))
}

/// Every metric of ours that a text names.
pub(crate) fn metric_names(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '/' || c == '.';
    text.split(|c: char| !word(c))
        // A path or a file's name is none.
        .filter(|word| word.starts_with("tidings_") && !word.contains(['/', '.', '-']))
        .map(str::to_owned)
        .collect()
}

#[test]
fn names_are_found_in_expressions() {
    let names =
        metric_names(r#"rate(tidings_a_total{x="y"}[5m]) / "tidings_b" tidings-c job="tidings""#);
    assert_eq!(Vec::from_iter(names), ["tidings_a_total", "tidings_b"]);
}
