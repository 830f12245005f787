//! The contract over real sockets, on two instances.

mod commands;
mod common;
mod opening;
mod returning;
