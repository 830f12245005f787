//! `TIDINGS_…` variables: which key each sets, and as what.
//!
//! figment's own provider guesses types (a password of digits becomes a number) and passes over what
//! it does not know; here the key says which type it has, and an unknown variable is a mistake.

use figment::Profile;
use figment::Provider as _;
use figment::providers::{Format as _, Toml};
use figment::value::Value;

use super::layers::leaves;
use super::report::among;

const PREFIX: &str = "TIDINGS_";
/// Variables of adapters' keys: `TIDINGS_ADAPTERS__NTFY__CACHE`.
pub(super) const ADAPTERS_PREFIX: &str = "TIDINGS_ADAPTERS__";
/// Variables that set no configuration key: those of the command line (`tidings --help`), and those
/// that this project's own tests are started with.
const OTHER_VARIABLES: [&str; 7] = [
    "TIDINGS_CONFIG",
    "TIDINGS_URL",
    "TIDINGS_KEY",
    "TIDINGS_BIN",
    "TIDINGS_REDIS_SERVER",
    "TIDINGS_EXAM_REDIS",
    "TIDINGS_EXAM_SEED",
];

/// The key that a variable sets; `None` when it is not ours.
pub(super) fn variable_path(variable: &str, schema: &Value) -> Result<Option<String>, String> {
    let Some(name) = variable.strip_prefix(PREFIX) else {
        return Ok(None);
    };
    if OTHER_VARIABLES.contains(&variable) || is_service_link(name) {
        return Ok(None);
    }
    let path = name.to_ascii_lowercase().replace("__", ".");
    if schema
        .find_ref(&path)
        .is_some_and(|value| value.as_dict().is_none())
    {
        return Ok(Some(path));
    }
    if let Some(path) = adapter_path(&path, schema) {
        return Ok(Some(path));
    }
    let known = leaves(schema).into_iter().map(|path| variable_of(&path));
    Err(among("there is no such variable", variable, known))
}

/// The key of an adapter that a variable sets. Which keys there are, only the adapter knows.
fn adapter_path(path: &str, schema: &Value) -> Option<String> {
    let (name, key) = path.strip_prefix("adapters.")?.split_once('.')?;
    let names = schema.find_ref("adapters")?.as_dict()?;
    // A variable's name has no `-`.
    let (name, table) = names
        .iter()
        .find(|(one, _)| one.replace('-', "_") == name)?;
    let known = key == "mount" || key.starts_with("mount.");
    let there = !known || table.find_ref(key)?.as_dict().is_none();
    there.then(|| format!("adapters.{name}.{key}"))
}

/// Kubernetes sets `<SERVICE>_SERVICE_HOST`, `<SERVICE>_PORT_80_TCP` and the like for every service,
/// and this one's is likely to be called `tidings`.
fn is_service_link(name: &str) -> bool {
    let ends = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"];
    let name = format!("_{name}");
    !name.contains("__")
        && (ends.iter().any(|end| name.ends_with(end))
            || name.contains("_SERVICE_PORT_")
            || name.split_once("_PORT_").is_some_and(|(_, rest)| {
                rest.starts_with(|c: char| c.is_ascii_digit())
                    && (rest.contains("_TCP") || rest.contains("_UDP"))
            }))
}

/// The variable that sets a key.
fn variable_of(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__").to_ascii_uppercase())
}

/// What a variable's text may mean, when a text is not what is wanted.
pub(super) fn guesses(text: &str) -> Vec<Value> {
    let mut guesses = Vec::new();
    if let Ok(value) = text.parse::<bool>() {
        guesses.push(Value::from(value));
    }
    if let Ok(number) = text.parse::<u64>() {
        guesses.push(Value::from(number));
    }
    if let Ok(number) = text.parse::<i64>() {
        guesses.push(Value::from(number));
    }
    if let Ok(number) = text.parse::<f64>() {
        guesses.push(Value::from(number));
    }
    let inline = Toml::string(&format!("value = {text}")).data();
    guesses.extend(
        inline
            .ok()
            .and_then(|mut data| data.remove(&Profile::Default)?.remove("value")),
    );
    let list = Value::from(Vec::<Value>::new());
    guesses.push(typed(text, Some(&list)));
    guesses
}

/// A variable's text as the type that the key has. What does not fit stays text, and is reported
/// as such.
pub(super) fn typed(text: &str, schema: Option<&Value>) -> Value {
    match schema {
        Some(Value::Bool(..)) => match text {
            "true" => Value::from(true),
            "false" => Value::from(false),
            _ => Value::from(text),
        },
        Some(Value::Num(..)) => text
            .parse::<u64>()
            .map_or_else(|_| Value::from(text), Value::from),
        Some(Value::Array(..)) if text.trim_start().starts_with('[') => {
            let list = Toml::string(&format!("list = {text}")).data();
            list.ok()
                .and_then(|mut data| data.remove(&Profile::Default))
                .and_then(|mut members| members.remove("list"))
                .unwrap_or_else(|| Value::from(text))
        }
        Some(Value::Array(..)) => {
            let parts = text
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty());
            Value::from(parts.map(Value::from).collect::<Vec<Value>>())
        }
        _ => Value::from(text),
    }
}
