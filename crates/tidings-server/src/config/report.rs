//! The configuration in print: what is in force, and what is wrong. Secrets are never part of it.

use std::fmt;

use figment::value::Value;

use super::layers::{Loaded, is_unset, leaves, origin, schema};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The key, e.g. `server.listen`, or the variable or file.
    pub key: String,
    /// Its value, as far as it may be shown.
    pub value: String,
    /// Where it came from.
    pub source: String,
    /// What is allowed instead.
    pub allowed: String,
}

impl Mistake {
    pub(crate) fn plain(key: &str, allowed: String) -> Self {
        Self {
            key: key.to_owned(),
            value: String::new(),
            source: String::new(),
            allowed,
        }
    }
}

/// Everything that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let things = if count == 1 { "thing is" } else { "things are" };
        write!(f, "{count} {things} wrong with the configuration")?;
        for mistake in &self.0 {
            write!(f, "\n  {}", mistake.key)?;
            if !mistake.value.is_empty() {
                write!(f, " = {}", mistake.value)?;
            }
            if !mistake.source.is_empty() {
                write!(f, " (from {})", mistake.source)?;
            }
            write!(f, ": {}", mistake.allowed)?;
        }
        Ok(())
    }
}

impl fmt::Display for Loaded {
    /// Every key with its value and where that comes from.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let adapters = self.root.find_ref("adapters").into_iter();
        let adapters = adapters
            .flat_map(leaves)
            .map(|path| format!("adapters.{path}"));
        let there = |path: &String| self.root.find_ref(path).is_some();
        for path in leaves(&schema()).into_iter().chain(adapters.filter(there)) {
            let Some(value) = self.root.find_ref(&path) else {
                continue;
            };
            let line = format!("{path} = {}", shown(&path, value));
            writeln!(f, "{line:<48}  # {}", origin(&self.figment, value))?;
        }
        Ok(())
    }
}

/// A value as TOML writes it, with secrets taken out.
pub(super) fn shown(path: &str, value: &Value) -> String {
    let last = path.rsplit('.').next().unwrap_or(path);
    let secret = matches!(last, "password" | "sentinel_password" | "key" | "secret")
        || adapters_secret(path, last);
    match value {
        _ if secret && !is_unset(value) => "\"***\"".to_owned(),
        Value::String(_, text) if matches!(last, "url" | "jwks_url") => {
            format!("{:?}", without_password(text))
        }
        Value::String(_, text) => format!("{text:?}"),
        Value::Char(_, c) => format!("{:?}", c.to_string()),
        Value::Bool(_, b) => b.to_string(),
        Value::Num(_, n) => n
            .to_i128()
            .map(|n| n.to_string())
            .or_else(|| n.to_f64().map(|n| n.to_string()))
            .or_else(|| n.to_u128().map(|n| n.to_string()))
            .unwrap_or_default(),
        Value::Empty(..) => "\"\"".to_owned(),
        Value::Array(_, elements) => {
            let elements: Vec<String> = elements.iter().map(|e| shown(path, e)).collect();
            format!("[{}]", elements.join(", "))
        }
        Value::Dict(_, members) => {
            let members: Vec<String> = members
                .iter()
                .map(|(name, member)| {
                    format!("{name} = {}", shown(&format!("{path}.{name}"), member))
                })
                .collect();
            format!("{{ {} }}", members.join(", "))
        }
    }
}

/// Whether a key of an adapter sounds like a secret. Only the adapter knows; hiding too much is
/// harmless.
fn adapters_secret(path: &str, last: &str) -> bool {
    let sounds = ["password", "passphrase", "secret", "token", "credential"];
    let own = path.starts_with("adapters.") && !path.contains(".mount.");
    own && !last.ends_with("_file")
        && (last.ends_with("key")
            || last.ends_with("keys")
            || sounds.iter().any(|one| last.contains(one)))
}

/// Addresses without the passwords that stand in them.
#[must_use]
pub fn without_password(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((head, tail)) = rest.split_once("://") {
        out.push_str(head);
        out.push_str("://");
        let end = tail.find(['/', '?', '#', ',', ' ']).unwrap_or(tail.len());
        let (authority, after) = tail.split_at(end);
        // A password may itself hold a slash or an at sign, unescaped: then the last at sign of the
        // whole text decides, so that nothing of it is shown.
        let (authority, after) = match (authority.rfind('@'), after.rfind('@')) {
            (None, Some(at)) if authority.contains(':') => tail.split_at(end + at + 1),
            _ => (authority, after),
        };
        match authority.rsplit_once('@') {
            Some((user, host)) => {
                let user = user.split(':').next().unwrap_or_default();
                out.push_str(&format!("{user}:***@{host}"));
            }
            None => out.push_str(authority),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// "…; did you mean this?" or the list of what there is.
pub(super) fn among<S: AsRef<str>>(
    wrong: &str,
    name: &str,
    known: impl Iterator<Item = S>,
) -> String {
    let known: Vec<String> = known.map(|k| k.as_ref().to_owned()).collect();
    let near = known
        .iter()
        .map(|k| (distance(k, name), k))
        .min()
        .filter(|(steps, k)| *steps <= (k.len() / 2).clamp(1, 3));
    match near {
        Some((_, near)) => format!("{wrong}; did you mean `{near}`?"),
        None => format!("{wrong}; there are {}", known.join(", ")),
    }
}

/// Letters to change, add or take away (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
