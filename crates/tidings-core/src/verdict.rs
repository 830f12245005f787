//! What the log says of a cursor. Only `ok` resumes in silence.

/// The log's answer to "may I go on from here without having missed anything?" (LOG.md §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Nothing was missed: the event at the cursor exists, or nothing has happened since.
    Ok,
    /// The cursor is older than what is retained, and something in between is gone.
    Expired,
    /// The cursor lies inside the retained range, but there is no such event: the log lost a
    /// suffix in a failover, and the reader has seen events that are no longer there.
    Diverged,
    /// The cursor lies beyond the partition's last event.
    Ahead,
}

impl Verdict {
    /// The word on the wire, in metrics and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Expired => "expired",
            Self::Diverged => "diverged",
            Self::Ahead => "ahead",
        }
    }

    /// Whether the reader may go on in silence.
    #[must_use]
    pub const fn is_ok(self) -> bool {
        matches!(self, Self::Ok)
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
