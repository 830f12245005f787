//! The table of routes: contract section 1, a row each.
//!
//! A table of our own and not axum's: which methods a path has, the optional `/` at its end and the
//! numeric `:id` are the contract's, and a 404 or 405 must have its shape.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tidings_adapter::http::Method;

use crate::Shared;
use crate::answer::Answer;
use crate::errors::Refused;
use crate::request::Asked;

/// What a route comes to.
pub(crate) type Answered = Pin<Box<dyn Future<Output = Result<Answer, Refused>> + Send>>;

/// A route's work.
pub(crate) type Act = Box<dyn Fn(Arc<Shared>, Asked) -> Answered + Send + Sync>;

/// One row.
pub(crate) struct Row {
    method: Method,
    /// `:id` stands for a number.
    path: &'static str,
    act: Act,
}

/// A row: `row(Method::GET, "/messages/cardholders/:id", read)` with
/// `async fn read(shared: Arc<Shared>, asked: Asked) -> Result<Answer, Refused>`.
pub(crate) fn row<F, R>(method: Method, path: &'static str, act: F) -> Row
where
    F: Fn(Arc<Shared>, Asked) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Answer, Refused>> + Send + 'static,
{
    Row {
        method,
        path,
        act: Box::new(move |shared, asked| Box::pin(act(shared, asked))),
    }
}

/// All rows that need a session.
pub(crate) struct Table(Vec<Row>);

/// What a path and a method lead to.
pub(crate) enum Found<'a> {
    /// The row's work, and the number in the path.
    Row(&'a Act, Option<u64>),
    /// The path has other methods: these.
    OtherMethods(Vec<Method>),
    Nothing,
}

impl Table {
    pub(crate) fn new(rows: Vec<Row>) -> Self {
        Self(rows)
    }

    /// The row for a path without a `/` at its end.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Found<'_> {
        let mut others = Vec::new();
        for row in &self.0 {
            let Some(id) = matches(row.path, path) else {
                continue;
            };
            if row.method == *method {
                return Found::Row(&row.act, id);
            }
            others.push(row.method.clone());
        }
        if others.is_empty() {
            Found::Nothing
        } else {
            Found::OtherMethods(others)
        }
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rows = self.0.iter().map(|row| (&row.method, row.path));
        f.debug_list().entries(rows).finish()
    }
}

/// Whether a path is that of a pattern, and the number in it.
fn matches(pattern: &str, path: &str) -> Option<Option<u64>> {
    let mut id = None;
    let mut parts = path.split('/');
    for one in pattern.split('/') {
        let part = parts.next()?;
        if one == ":id" {
            id = Some(number(part)?);
        } else if one != part {
            return None;
        }
    }
    parts.next().is_none().then_some(id)
}

/// An id: digits, and exact as a number of JavaScript.
pub(crate) fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.len() <= 16 && text.bytes().all(|b| b.is_ascii_digit());
    let number = digits.then(|| text.parse::<u64>().ok()).flatten()?;
    (number < 1 << 53).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (pattern, path, found) in [
            ("/a/:id/b", "/a/12/b", Some(Some(12))),
            ("/a/:id/b", "/a/x/b", None),
            ("/a/:id/b", "/a//b", None),
            ("/a/:id/b", "/a/12", None),
            ("/a/:id", "/a/12/b", None),
            ("/a/:id", "/a/-1", None),
            ("/a/:id", "/a/+1", None),
            ("/a/:id", "/a/9007199254740992", None),
            ("/a/:id", "/a/9007199254740991", Some(Some((1 << 53) - 1))),
            ("/a/:id", "/a/99999999999999999999999", None),
            ("/a", "/a", Some(None)),
            ("/a", "/", None),
        ] {
            assert_eq!(matches(pattern, path), found, "{path}");
        }
    }
}
