//! The members of a JSON object, taken with the words for what is wrong with them.

use serde_json::{Map, Value};

use crate::http::Problem;
use crate::objects;

/// An object whose members are asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    pub(crate) fn of(value: &'a Value, what: &str) -> Result<Self, Problem> {
        let object = value.as_object();
        object
            .map(Self)
            .ok_or_else(|| Problem::bad(format!("{what} is no object")))
    }

    pub(crate) fn map(object: &'a Map<String, Value>) -> Self {
        Self(object)
    }

    pub(crate) fn all(self) -> &'a Map<String, Value> {
        self.0
    }

    fn get(self, name: &str) -> Result<&'a Value, Problem> {
        let value = self.0.get(name).filter(|value| !value.is_null());
        value.ok_or_else(|| Problem::bad(format!("`{name}` is missing")))
    }

    /// A member that may be missing, or null.
    pub(crate) fn maybe<T>(
        self,
        name: &str,
        take: fn(Self, &str) -> Result<T, Problem>,
    ) -> Result<Option<T>, Problem> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => take(self, name).map(Some),
        }
    }

    pub(crate) fn id(self, name: &str) -> Result<u64, Problem> {
        objects::id(self.get(name)?).ok_or_else(|| Problem::bad(format!("`{name}` is no id")))
    }

    pub(crate) fn text(self, name: &str) -> Result<&'a str, Problem> {
        let text = self.get(name)?.as_str();
        text.ok_or_else(|| Problem::bad(format!("`{name}` is no text")))
    }

    pub(crate) fn flag(self, name: &str) -> Result<bool, Problem> {
        let flag = self.get(name)?.as_bool();
        flag.ok_or_else(|| Problem::bad(format!("`{name}` is neither true nor false")))
    }

    pub(crate) fn number(self, name: &str) -> Result<u64, Problem> {
        let number = self.get(name)?.as_u64();
        number.ok_or_else(|| Problem::bad(format!("`{name}` is no number")))
    }

    pub(crate) fn list(self, name: &str) -> Result<&'a Vec<Value>, Problem> {
        let list = self.get(name)?.as_array();
        list.ok_or_else(|| Problem::bad(format!("`{name}` is no list")))
    }

    pub(crate) fn object(self, name: &str) -> Result<Self, Problem> {
        Self::of(self.get(name)?, &format!("`{name}`"))
    }

    pub(crate) fn any(self, name: &str) -> Result<&'a Value, Problem> {
        self.get(name)
    }

    pub(crate) fn ids(self, name: &str) -> Result<Vec<u64>, Problem> {
        let ids = self.list(name)?.iter().map(objects::id);
        let ids: Option<Vec<u64>> = ids.collect();
        ids.ok_or_else(|| Problem::bad(format!("`{name}` has what is no id")))
    }

    /// A text of a person: not empty, not long, one line.
    pub(crate) fn line(self, name: &str, max: usize) -> Result<&'a str, Problem> {
        let text = self.text(name)?;
        if text.is_empty() || text.len() > max || text.chars().any(char::is_control) {
            let words = format!("`{name}` is a line of 1 to {max} bytes");
            return Err(Problem::bad(words));
        }
        Ok(text)
    }
}
