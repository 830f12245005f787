//! The sources of the configuration on top of each other.
//!
//! defaults <- `config/tidings.toml` in the working directory <- development mode <- the file given
//! <- environment <- flags. figment merges them and remembers where each value came from. All that
//! is wrong is collected, not only the first of it: what does not fit is reported, put back to its
//! default, and the rest is looked at again.

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::error::Kind;
use figment::value::{Empty, Value};

use super::Config;
use super::adapters::schema_with;
use super::environment::{ADAPTERS_PREFIX, typed, variable_path};
use super::providers::{File, One, Text};
use super::report::{Mistake, Mistakes, among, shown};
use crate::edge::plan::{check_files, plan};

/// `config/tidings.toml`: every key with its default.
pub const DEFAULTS: &str = include_str!("../../../../config/tidings.toml");
/// `config/tidings.dev.toml`: what `--dev` adds.
pub const DEVELOPMENT: &str = include_str!("../../../../config/tidings.dev.toml");
/// The file that is read when it is there, from the working directory.
pub const USUAL_FILE: &str = "config/tidings.toml";

/// Where configuration comes from. Files and environment are arguments, so that tests have theirs.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// [`USUAL_FILE`], if it should be looked for.
    pub usual_file: Option<PathBuf>,
    /// Whether this is development mode.
    pub dev: bool,
    /// The file given with `--config`.
    pub file: Option<PathBuf>,
    /// Environment variables, all of them.
    pub environment: Vec<(String, String)>,
    /// The adapters that are part of the binary.
    pub adapters: Vec<String>,
    /// More of them, which are only there when the configuration has their table.
    pub dialects: Vec<String>,
    /// Whether there may be others, whose tables and variables are passed over.
    pub other_adapters: bool,
    /// Keys set by flags, with the flag's name: `("server.listen", "--listen", value)`.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

/// A configuration and where its values came from.
#[derive(Debug)]
pub struct Loaded {
    /// What is in force.
    pub config: Config,
    /// The adapters that are there, in the order of [`Sources::adapters`] and
    /// [`Sources::dialects`].
    pub adapters: Vec<String>,
    pub(super) figment: Figment,
    pub(super) root: Value,
}

/// Loads and checks the configuration.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(sources: &Sources) -> Result<Loaded, Mistakes> {
    let mut mistakes = Vec::new();
    let defaults = Text {
        name: "defaults",
        text: DEFAULTS,
    };
    let known = [&sources.adapters[..], &sources.dialects].concat();
    let schema = schema_with(&known);
    let mut figment = Figment::from(defaults);
    if let Some(path) = &sources.usual_file
        && path.exists()
    {
        figment = with_file(figment, path, &mut mistakes);
    }
    if sources.dev {
        figment = figment.admerge(Text {
            name: "--dev",
            text: DEVELOPMENT,
        });
    }
    if let Some(path) = &sources.file {
        figment = with_file(figment, path, &mut mistakes);
    }
    for (variable, text) in &sources.environment {
        match variable_path(variable, &schema) {
            Ok(None) => {}
            Ok(Some(path)) => {
                let value = typed(text, schema.find_ref(&path));
                figment = figment.merge(One {
                    name: "environment",
                    source: variable.clone(),
                    path,
                    value,
                });
            }
            Err(_) if sources.other_adapters && variable.starts_with(ADAPTERS_PREFIX) => {}
            Err(why) => mistakes.push(Mistake {
                key: variable.clone(),
                value: String::new(),
                source: "environment".to_owned(),
                allowed: why,
            }),
        }
    }
    for (path, flag, text) in &sources.flags {
        figment = figment.merge(One {
            name: "flag",
            source: (*flag).to_owned(),
            path: (*path).to_owned(),
            value: Value::from(text.as_str()),
        });
    }
    let spoken_of = |name: &&String| figment.find_value(&format!("adapters.{name}")).is_ok();
    let dialects = sources.dialects.iter().filter(spoken_of);
    let adapters: Vec<_> = sources.adapters.iter().chain(dialects).cloned().collect();
    let mut root = match figment.find_value("") {
        Ok(root) => root,
        Err(error) => {
            mistakes.push(Mistake::plain("configuration", error.to_string()));
            schema.clone()
        }
    };
    if sources.other_adapters {
        drop_others(&mut root, &known);
    }
    drop_unknown(&mut root, &schema, &mut Vec::new(), &figment, &mut mistakes);
    let mut config = extract(&mut root, &schema, &figment, &mut mistakes)?;
    let mut wrong = config.resolve();
    // What was put back to its default says nothing about where who listens.
    let settled =
        |one: &Mistake| !one.key.starts_with("server") && !one.key.starts_with("adapters");
    if mistakes.iter().all(settled) && !sources.other_adapters {
        let planned = plan(&config.server, &config.adapters, &adapters);
        let checked = planned.and_then(|listeners| check_files(&listeners));
        wrong.extend(checked.err().unwrap_or_default());
    }
    for (path, allowed) in wrong {
        mistakes.push(mistake(&root, &figment, &path, allowed));
    }
    if mistakes.is_empty() {
        Ok(Loaded {
            config,
            adapters,
            figment,
            root,
        })
    } else {
        Err(Mistakes(mistakes))
    }
}

/// The defaults as values: which keys there are, and of which type.
pub(super) fn schema() -> Value {
    Figment::from(Text {
        name: "defaults",
        text: DEFAULTS,
    })
    .find_value("")
    .expect("the defaults are part of the binary and tested")
}

fn with_file(figment: Figment, path: &Path, mistakes: &mut Vec<Mistake>) -> Figment {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let why = format!("cannot be read: {error}");
            mistakes.push(Mistake::plain(&path.display().to_string(), why));
            return figment;
        }
    };
    if let Err(error) = toml::from_str::<toml::Table>(&text) {
        let why = format!("is not TOML: {error}");
        mistakes.push(Mistake::plain(&path.display().to_string(), why));
        return figment;
    }
    figment.merge(File { path, text })
}

/// Takes out every key that the defaults do not have.
fn drop_unknown(
    value: &mut Value,
    schema: &Value,
    path: &mut Vec<String>,
    figment: &Figment,
    mistakes: &mut Vec<Mistake>,
) {
    let (Value::Dict(_, members), Value::Dict(_, known)) = (value, schema) else {
        return;
    };
    let (adapters, adapter) = match path.as_slice() {
        [first] => (first == "adapters", false),
        [first, _] => (false, first == "adapters"),
        _ => (false, false),
    };
    members.retain(|name, member| {
        path.push(name.clone());
        let mut kept = known.contains_key(name);
        if let Some(schema) = known.get(name) {
            drop_unknown(member, schema, path, figment, mistakes);
        } else if adapter {
            // The adapter's own, which it reads itself.
            kept = true;
        } else if adapters {
            // What development mode says to an adapter is for binaries that have it.
            if origin(figment, member) != "--dev" {
                let wrong = "this binary has no such adapter";
                let allowed = match known.is_empty() {
                    true => wrong.to_owned(),
                    false => among(wrong, name, known.keys()),
                };
                let found = Mistake {
                    value: String::new(),
                    source: origin(figment, member),
                    allowed,
                    key: path.join("."),
                };
                mistakes.push(found);
            }
        } else {
            let key = path.join(".");
            mistakes.push(Mistake {
                value: shown(&key, member),
                source: origin(figment, member),
                allowed: among("there is no such key", name, known.keys()),
                key,
            });
        }
        path.pop();
        kept
    });
}

/// Takes out the tables of adapters that are not these.
fn drop_others(root: &mut Value, adapters: &[String]) {
    if let Value::Dict(_, members) = root
        && let Some(Value::Dict(_, tables)) = members.get_mut("adapters")
    {
        tables.retain(|name, _| adapters.contains(name));
    }
}

/// Deserialises, putting back to the default what does not fit until all does.
fn extract(
    root: &mut Value,
    schema: &Value,
    figment: &Figment,
    mistakes: &mut Vec<Mistake>,
) -> Result<Config, Mistakes> {
    loop {
        let error = match root.deserialize::<Config>() {
            Ok(config) => return Ok(config),
            Err(error) => error,
        };
        let path = error.path.join(".");
        mistakes.push(mistake(root, figment, &path, allowed(&error.kind)));
        if !repair(root, schema, &error.path) {
            return Err(Mistakes(std::mem::take(mistakes)));
        }
    }
}

pub(super) fn mistake(root: &Value, figment: &Figment, path: &str, allowed: String) -> Mistake {
    let found = at(root, path);
    Mistake {
        key: label(root, path),
        value: found.map(|value| shown(path, value)).unwrap_or_default(),
        source: found
            .map(|value| origin(figment, value))
            .unwrap_or_default(),
        allowed,
    }
}

/// One step down a path; figment's own walk ends at lists.
fn inside<'a>(value: &'a Value, part: &str) -> Option<&'a Value> {
    match value {
        Value::Dict(_, members) => members.get(part),
        Value::Array(_, elements) => elements.get(part.parse::<usize>().ok()?),
        _ => None,
    }
}

pub(super) fn at<'a>(root: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(root, inside)
}

/// A path with the names of list elements in place of their numbers: a bad one is taken out and the
/// numbers of those behind it change.
fn label(root: &Value, path: &str) -> String {
    let (mut label, mut value) = (String::new(), Some(root));
    for part in path.split('.') {
        let next = value.and_then(|value| inside(value, part));
        match value {
            Some(Value::Array(..)) => {
                let name = next.and_then(|element| inside(element, "name")?.as_str());
                label.push_str(&format!("[{}]", name.unwrap_or(part)));
            }
            _ if label.is_empty() => label.push_str(part),
            _ => label.push_str(&format!(".{part}")),
        }
        value = next;
    }
    label
}

/// Puts a bad value back to its default; a bad element of a list is taken out.
fn repair(value: &mut Value, schema: &Value, path: &[String]) -> bool {
    match (value, path) {
        (Value::Dict(_, members), [name, rest @ ..]) => {
            let (Some(member), Some(schema)) = (members.get_mut(name), schema.find_ref(name))
            else {
                return false;
            };
            let inside = matches!(member, Value::Dict(..) | Value::Array(..));
            if !(inside && repair(member, schema, rest)) {
                *member = schema.clone();
            }
            true
        }
        (Value::Array(_, elements), [index, ..]) => match index.parse::<usize>() {
            Ok(index) if index < elements.len() => {
                elements.remove(index);
                true
            }
            _ => false,
        },
        _ => false,
    }
}

pub(super) fn allowed(kind: &Kind) -> String {
    match kind {
        Kind::InvalidType(_, expected)
        | Kind::InvalidValue(_, expected)
        | Kind::InvalidLength(_, expected) => expected.clone(),
        Kind::UnknownField(name, known) => {
            among("there is no such key", name, known.iter().copied())
        }
        Kind::UnknownVariant(name, known) => {
            among("there is no such value", name, known.iter().copied())
        }
        Kind::MissingField(name) => format!("`{name}` must be set"),
        other => other.to_string(),
    }
}

/// The paths of all keys.
pub(super) fn leaves(schema: &Value) -> Vec<String> {
    match schema.as_dict() {
        None => vec![String::new()],
        Some(members) => members
            .iter()
            .flat_map(|(name, member)| {
                leaves(member)
                    .into_iter()
                    .map(move |rest| match rest.as_str() {
                        "" => name.clone(),
                        rest => format!("{name}.{rest}"),
                    })
            })
            .collect(),
    }
}

/// Where a value came from, in words.
pub(super) fn origin(figment: &Figment, value: &Value) -> String {
    // A list's own tag is that of the layer which began it; its elements know better.
    let tag = match value {
        Value::Array(_, elements) => elements.last().map_or_else(|| value.tag(), Value::tag),
        _ => value.tag(),
    };
    match figment.get_metadata(tag) {
        None => "defaults".to_owned(),
        Some(metadata) => match (&*metadata.name, metadata.source.as_ref()) {
            ("file", Some(source)) => source.to_string(),
            (_, Some(figment::Source::Custom(source))) => source.clone(),
            (name, _) => name.to_owned(),
        },
    }
}

/// An unset value, as figment writes it.
pub(super) fn is_unset(value: &Value) -> bool {
    matches!(value, Value::Empty(_, Empty::None | Empty::Unit))
        || value.as_str().is_some_and(str::is_empty)
}
