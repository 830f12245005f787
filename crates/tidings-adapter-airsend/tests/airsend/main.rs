//! The contract over real sockets, on two instances.

mod backend;
mod commands;
mod common;
mod crowd;
mod ending;
mod exam;
mod opening;
mod operations;
mod returning;
