//! The contract over real HTTP, on two instances that share one log.

mod common;
mod front;
mod jobs;
mod play;
mod polls;
mod sessions;
mod unsigned;
