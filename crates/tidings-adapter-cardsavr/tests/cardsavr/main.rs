//! The contract over real HTTP, on two instances that share one log.

mod asking;
mod common;
mod cut;
mod front;
mod hours;
mod jobs;
mod logins;
mod play;
mod polls;
mod published;
mod sessions;
mod unsigned;
