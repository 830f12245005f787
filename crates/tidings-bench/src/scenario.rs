//! What can be measured: one module per question.

pub(crate) mod idle;
pub(crate) mod load;
pub(crate) mod poll;
pub(crate) mod publish;
pub(crate) mod replay;

use std::time::Duration;

/// How long readers may take to connect and subscribe: twenty thousand at a thousand a second, and
/// some.
const READY_WITHIN: Duration = Duration::from_secs(30);
