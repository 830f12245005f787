//! What figment merges: the texts in the binary, files, single keys.

use std::path::Path;

use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Map, Tag, Value};
use figment::{Metadata, Profile, Provider};

/// TOML that is part of the binary.
pub(super) struct Text {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
}

impl Provider for Text {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Toml::string(self.text).data()
    }
}

/// A file, already read.
pub(super) struct File<'a> {
    pub(super) path: &'a Path,
    pub(super) text: String,
}

impl Provider for File<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::from("file", self.path)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Toml::string(&self.text).data()
    }
}

/// One key.
pub(super) struct One {
    pub(super) name: &'static str,
    pub(super) source: String,
    pub(super) path: String,
    pub(super) value: Value,
}

impl Provider for One {
    fn metadata(&self) -> Metadata {
        Metadata::from(self.name, figment::Source::Custom(self.source.clone()))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut value = self.value.clone();
        for name in self.path.rsplit('.') {
            let mut members = Dict::new();
            members.insert(name.to_owned(), value);
            value = Value::Dict(Tag::Default, members);
        }
        let members = value.into_dict().unwrap_or_default();
        Ok(Profile::Default.collect(members))
    }
}
