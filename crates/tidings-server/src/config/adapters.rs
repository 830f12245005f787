//! `[adapters.<name>]`: what belongs to one adapter.
//!
//! The sub-table `mount` is the server's. All other keys are the adapter's own and are read into a
//! type that only it knows. So the defaults cannot say which of them there are and what type each
//! has; the adapter's type does, and what a file or a variable says is fitted to it: a variable's
//! text becomes the number or list that is wanted, and `x_file` stands for `x` wherever there is an
//! `x` and no `x_file`.

use std::collections::BTreeMap;
use std::path::Path;

use figment::Figment;
use figment::error::Kind;
use figment::value::{Dict, Value};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::environment::guesses;
use super::layers::{Loaded, allowed, mistake, schema};
use super::report::{Mistake, Mistakes};
use super::{Secret, read_secret};
use crate::edge::plan::Mount;

/// The table of one adapter, as far as it is the server's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct AdapterTable {
    /// Where it is reached.
    #[serde(default)]
    pub mount: Option<Mount>,
}

/// The tables of all adapters.
pub type AdapterTables = BTreeMap<String, AdapterTable>;

/// The keys of a mount, with the values that mean "not set".
const MOUNT: &str = "listen = \"\"\nhost = \"\"\npath = \"\"\n\
                     tls_cert = \"\"\ntls_key = \"\"\ntls_self_signed = false\n";

/// The keys that there are when these adapters are part of the binary.
pub(super) fn schema_with(names: &[String]) -> Value {
    let mut schema = schema();
    let mount = Figment::from(super::providers::Text {
        name: "defaults",
        text: MOUNT,
    });
    let mount = mount
        .find_value("")
        .expect("the keys of a mount are part of the binary and tested");
    let tables = names.iter().map(|name| {
        let table = Dict::from([("mount".to_owned(), mount.clone())]);
        (name.clone(), Value::from(table))
    });
    if let Value::Dict(_, members) = &mut schema {
        members.insert("adapters".to_owned(), Value::from(tables.collect::<Dict>()));
    }
    schema
}

impl Loaded {
    /// The adapter's own keys, as its own type. That type must say `deny_unknown_fields`, or a
    /// misspelt key is passed over.
    ///
    /// # Errors
    /// Everything that does not fit.
    pub fn options<T: DeserializeOwned>(&self, adapter: &str) -> Result<T, Mistakes> {
        let mut own = match self
            .root
            .find_ref("adapters")
            .and_then(|all| all.as_dict()?.get(adapter))
        {
            Some(Value::Dict(_, members)) => members.clone(),
            _ => Dict::new(),
        };
        own.remove("mount");
        let mut fitting = Fitting {
            loaded: self,
            adapter,
            own: Value::from(own),
            tried: BTreeMap::new(),
            mistakes: Vec::new(),
        };
        loop {
            match fitting.own.deserialize::<T>() {
                Ok(options) if fitting.mistakes.is_empty() => return Ok(options),
                Ok(_) => return Err(Mistakes(fitting.mistakes)),
                Err(error) => {
                    if !fitting.fit(&error.path, &error.kind) {
                        return Err(Mistakes(fitting.mistakes));
                    }
                }
            }
        }
    }
}

/// The keys of one adapter on their way to its type.
struct Fitting<'a> {
    loaded: &'a Loaded,
    adapter: &'a str,
    own: Value,
    /// How many guesses were made at what a variable's text means.
    tried: BTreeMap<String, usize>,
    mistakes: Vec<Mistake>,
}

impl Fitting<'_> {
    /// Changes what does not fit, or notes it as a mistake and takes it out; false when nothing more
    /// can be found out.
    fn fit(&mut self, path: &[String], kind: &Kind) -> bool {
        match kind {
            Kind::UnknownField(name, known) => {
                if let Some(base) = name
                    .strip_suffix("_file")
                    .filter(|base| known.contains(base))
                {
                    return self.read_in(path, name, base);
                }
            }
            Kind::InvalidType(..) | Kind::InvalidValue(..) => {
                if let Some(value) = self.next_guess(path)
                    && let Some(place) = place(&mut self.own, path)
                {
                    *place = value;
                    return true;
                }
            }
            // After something was taken out it may be missed; that was said already.
            Kind::MissingField(_) if !self.mistakes.is_empty() => return false,
            _ => {}
        }
        self.note(path, allowed(kind));
        take_out(&mut self.own, path)
    }

    /// The secret in the file that `x_file` names becomes `x`.
    fn read_in(&mut self, path: &[String], name: &str, base: &str) -> bool {
        let table = &path[..path.len().saturating_sub(1)];
        let Some(Value::Dict(_, members)) = place(&mut self.own, table) else {
            return false;
        };
        let Some(file) = members.remove(name) else {
            return false;
        };
        let wrong = match (file.as_str(), members.contains_key(base)) {
            (Some(""), _) => None,
            (_, true) => Some(format!("set either this or {base}")),
            (None, _) => Some("the path of a file".to_owned()),
            (Some(text), false) => match read_secret(Path::new(text)) {
                Ok(secret) => {
                    let value = Value::String(file.tag(), Secret::expose(&secret).to_owned());
                    members.insert(base.to_owned(), value);
                    None
                }
                Err(why) => Some(why),
            },
        };
        if let Some(why) = wrong {
            self.note(path, why);
        }
        true
    }

    /// What a variable's text may mean other than a text.
    fn next_guess(&mut self, path: &[String]) -> Option<Value> {
        let key = self.key(path);
        let original = path_in(&self.loaded.root, &key)?;
        let text = original.as_str()?;
        let metadata = self.loaded.figment.get_metadata(original.tag())?;
        if metadata.name != "environment" {
            return None;
        }
        let tried = self.tried.entry(key).or_default();
        *tried += 1;
        guesses(text).into_iter().nth(*tried - 1)
    }

    fn note(&mut self, path: &[String], why: String) {
        let key = self.key(path);
        let Loaded { root, figment, .. } = self.loaded;
        self.mistakes.push(mistake(root, figment, &key, why));
    }

    fn key(&self, path: &[String]) -> String {
        let mut key = format!("adapters.{}", self.adapter);
        for part in path {
            key.push('.');
            key.push_str(part);
        }
        key
    }
}

fn path_in<'a>(root: &'a Value, key: &str) -> Option<&'a Value> {
    super::layers::at(root, key)
}

fn place<'a>(value: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, part| match value {
        Value::Dict(_, members) => members.get_mut(part),
        Value::Array(_, elements) => elements.get_mut(part.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Takes out what is at the path, or the whole element of a list that it is in.
fn take_out(value: &mut Value, path: &[String]) -> bool {
    match (value, path) {
        (Value::Dict(_, members), [name]) => members.remove(name).is_some(),
        (Value::Dict(_, members), [name, rest @ ..]) => members
            .get_mut(name)
            .is_some_and(|member| take_out(member, rest)),
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

#[cfg(test)]
#[path = "adapters_tests.rs"]
mod tests;
