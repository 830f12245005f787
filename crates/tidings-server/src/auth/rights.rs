//! What somebody may do: patterns of topics, until when, and how much.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderValue, RETRY_AFTER};
use tidings_core::{Topic, TopicPattern};

use super::rate::Budget;
use crate::problem::{Cause, Problem};

/// Who somebody is, as far as it may be said aloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// No key was sent.
    Anybody,
    /// The key of this name.
    Key(String),
    /// A token of the issuer of this name. Whose it is stays out of logs and answers.
    Token(String),
}

/// What somebody may do.
#[derive(Debug)]
pub struct Rights {
    /// Who it is.
    pub who: Who,
    pub(super) publish: Open,
    pub(super) read: Open,
    /// When a token ends, its issuer's leeway included.
    pub(super) until_unix_ms: Option<u64>,
    pub(super) budget: Option<Arc<Budget>>,
}

/// The topics that are open.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) patterns: Vec<TopicPattern>,
    /// A token may ask for less than its issuer's tokens may have; it never gets more.
    pub(super) narrowed: Option<Vec<TopicPattern>>,
}

impl Open {
    fn covers(&self, topic: &Topic) -> bool {
        let any = |patterns: &Vec<TopicPattern>| patterns.iter().any(|one| one.matches(topic));
        any(&self.patterns) && self.narrowed.as_ref().is_none_or(any)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty() || self.narrowed.as_ref().is_some_and(Vec::is_empty)
    }
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.patterns)?;
        match &self.narrowed {
            Some(narrowed) => write!(f, ", of which the token asks for {narrowed:?}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.who {
            Who::Anybody => f.write_str("anybody")?,
            Who::Key(name) => write!(f, "the key {name:?}")?,
            Who::Token(issuer) => write!(f, "a token of the issuer {issuer:?}")?,
        }
        write!(
            f,
            "\n  may publish to {}\n  may read {}",
            self.publish, self.read
        )
    }
}

impl Rights {
    /// Whether events may be published to a topic.
    ///
    /// # Errors
    /// 403, or 401 when there was no key.
    pub fn publish(&self, topic: &Topic) -> Result<(), Problem> {
        self.check(&self.publish, topic, "publish to")
    }

    /// Whether a topic may be read.
    ///
    /// # Errors
    /// 403, or 401 when there was no key.
    pub fn read(&self, topic: &Topic) -> Result<(), Problem> {
        self.check(&self.read, topic, "read")
    }

    /// Whether anything at all may be published: asked before a body is taken in.
    ///
    /// # Errors
    /// 403, or 401 when there was no key.
    pub fn publish_anything(&self) -> Result<(), Problem> {
        if self.publish.is_empty() {
            return Err(self.refusal("publish to any topic"));
        }
        Ok(())
    }

    /// Takes so many events from what may be published at this time, all or none.
    ///
    /// # Errors
    /// 429, with the time to wait.
    pub fn spend(&self, events: usize, uptime: Duration) -> Result<(), Problem> {
        let Some(budget) = &self.budget else {
            return Ok(());
        };
        budget.take(events, uptime).map_err(|wait| {
            // Whole seconds are all the header knows; a little late is better than too early.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let detail =
                "more events than may be published in this time; nothing of this was stored";
            Problem::new(Cause::RateLimited, detail)
                .with(
                    "retry_after_ms",
                    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                )
                .header(RETRY_AFTER, HeaderValue::from(seconds.max(1)))
        })
    }

    /// When these rights end, if they do.
    #[must_use]
    pub fn until_unix_ms(&self) -> Option<u64> {
        self.until_unix_ms
    }

    fn check(&self, open: &Open, topic: &Topic, what: &str) -> Result<(), Problem> {
        if open.covers(topic) {
            return Ok(());
        }
        Err(self
            .refusal(&format!("{what} `{topic}`"))
            .with("topic", topic.as_str()))
    }

    fn refusal(&self, what: &str) -> Problem {
        let detail = match &self.who {
            Who::Anybody => return Problem::unauthenticated(false),
            Who::Key(name) => format!("the key {name:?} does not allow you to {what}"),
            Who::Token(issuer) => {
                format!("this token of the issuer {issuer:?} does not allow you to {what}")
            }
        };
        Problem::new(Cause::Forbidden, detail)
    }
}
