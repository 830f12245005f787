//! How long jobs, questions and messages last (contract section 1.3).

use serde::Deserialize;
use tidings_adapter::Span;

use super::values::Unit;

/// `[adapters.cardsavr.timers]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timers {
    /// What a job may take from its start; longer while its user is asked.
    pub job: Span,
    /// The unit of `job_timeout` in messages.
    pub job_timeout_unit: Unit,
    /// How long new credentials are waited for.
    pub credentials: Span,
    /// How long a one-time code is waited for.
    pub tfa: Span,
    /// How many logins with wrong credentials end a job.
    pub login_failures: u32,
    /// How many wrong one-time codes end a job.
    pub tfa_failures: u32,
    /// How long messages that were not polled, and access keys after their last use, are kept.
    pub retention: Span,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            job: Span::from_secs(5 * 60),
            job_timeout_unit: Unit::Ms,
            credentials: Span::from_secs(4 * 60),
            tfa: Span::from_secs(4 * 60),
            login_failures: 2,
            tfa_failures: 1,
            retention: Span::from_secs(3600),
        }
    }
}
