//! The nouns and ports of Tidings: topics, drafts, events, cursors, verdicts, the log port and the session vocabulary
