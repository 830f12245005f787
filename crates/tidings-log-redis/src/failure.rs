//! What a failed command means for whoever sent it: was it executed, and where to turn next.

use redis::{ErrorKind, RedisError, ServerError};
use tidings_core::LogError;

/// Why a command brought no answer that could be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nothing was sent: no connection could be had.
    Unreachable(String),
    /// Sent, perhaps executed: the connection broke or the answer did not come in time.
    Lost(String),
    /// Not executed: this node is not (or not yet, or no longer) the one to ask.
    Elsewhere(String),
    /// Not executed: the node cannot take it at this moment.
    Busy(String),
    /// Not executed: no memory left.
    Full(String),
    /// Not executed: the server does not know the script (any more).
    NoScript,
    /// Not executed, and asking again changes nothing.
    Refused(String),
}

impl Failure {
    /// Of a command on a connection that stood.
    pub(crate) fn of(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension => {
                Self::of_reply(error.code().unwrap_or_default(), &error.to_string())
            }
            ErrorKind::AuthenticationFailed
            | ErrorKind::InvalidClientConfig
            | ErrorKind::RESP3NotSupported => Self::Refused(error.to_string()),
            ErrorKind::UnexpectedReturnType => Self::Refused(error.to_string()),
            _ => Self::Lost(error.to_string()),
        }
    }

    /// Of an attempt to connect: whatever went wrong, the command was not sent.
    pub(crate) fn of_connecting(error: &RedisError) -> Self {
        match Self::of(error) {
            Self::Lost(reason) => Self::Unreachable(reason),
            other => other,
        }
    }

    /// Of one answer in a pipeline.
    pub(crate) fn of_answer(error: &ServerError) -> Self {
        Self::of_reply(error.code(), &error.to_string())
    }

    fn of_reply(code: &str, text: &str) -> Self {
        // Redis before 7 hides the code of a command that failed inside a script.
        let inner = ["OOM", "READONLY", "NOREPLICAS", "MISCONF"]
            .into_iter()
            .find(|inner| code == "ERR" && text.contains("user_script") && text.contains(*inner));
        let reason = text.to_owned();
        match inner.unwrap_or(code) {
            "MOVED" | "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "LOADING" | "UNBLOCKED" => {
                Self::Elsewhere(reason)
            }
            // A slot on its way to another node, a script that runs for too long, too few
            // replicas, a disk that cannot be written: all of them pass.
            "ASK" | "TRYAGAIN" | "BUSY" | "NOREPLICAS" | "MISCONF" => Self::Busy(reason),
            "OOM" => Self::Full(reason),
            "NOSCRIPT" => Self::NoScript,
            _ => Self::Refused(reason),
        }
    }

    /// Whether the route to the node should be looked up anew.
    pub(crate) const fn wants_resolving(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_) | Self::Lost(_) | Self::Elsewhere(_)
        )
    }

    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Unreachable(reason)
            | Self::Lost(reason)
            | Self::Elsewhere(reason)
            | Self::Busy(reason)
            | Self::Full(reason)
            | Self::Refused(reason) => reason,
            Self::NoScript => "the server does not know the script",
        }
    }

    /// Of a call that changes nothing, so that it does not matter whether it was executed.
    pub(crate) fn of_read(self) -> LogError {
        match self {
            Self::Full(reason) => LogError::Full(reason),
            other => LogError::Unavailable(other.reason().to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::parse_redis_value;

    fn of(reply: &str) -> Failure {
        let value = parse_redis_value(format!("-{reply}\r\n").as_bytes()).expect("an error reply");
        Failure::of(&value.extract_error().expect_err("an error"))
    }

    #[test]
    fn replies_are_told_apart() {
        assert!(matches!(
            of("MOVED 3999 127.0.0.1:6381"),
            Failure::Elsewhere(_)
        ));
        assert!(matches!(
            of("READONLY You can't write"),
            Failure::Elsewhere(_)
        ));
        assert!(matches!(
            of("LOADING Redis is loading"),
            Failure::Elsewhere(_)
        ));
        assert!(matches!(
            of("UNBLOCKED force unblock"),
            Failure::Elsewhere(_)
        ));
        assert!(matches!(of("ASK 3999 127.0.0.1:6381"), Failure::Busy(_)));
        assert!(matches!(
            of("NOREPLICAS Not enough good replicas"),
            Failure::Busy(_)
        ));
        assert!(matches!(of("OOM command not allowed"), Failure::Full(_)));
        assert_eq!(of("NOSCRIPT No matching script"), Failure::NoScript);
        assert!(matches!(of("NOPERM no"), Failure::Refused(_)));
        assert!(matches!(of("ERR syntax error"), Failure::Refused(_)));
    }

    #[test]
    fn the_codes_inside_scripts_of_redis_6_are_found() {
        let text = "ERR Error running script (call to f_0): @user_script:12: @user_script: 12: -OOM command not allowed";
        assert!(matches!(of(text), Failure::Full(_)));
    }
}
