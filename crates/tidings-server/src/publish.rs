//! Publishing over HTTP: `POST /v1/events` in all its content types.
//!
//! A publish is answered after the log has it. A batch is checked whole before any of it is handed
//! to the log, so a mistake in it stores nothing; a line-by-line upload cannot be, so its answer
//! says which line failed and what was stored before it.

pub mod binary;
pub mod body;
