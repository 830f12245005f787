//! The contract over real sockets, on two instances.

mod commands;
mod common;
mod exam;
mod opening;
mod returning;
