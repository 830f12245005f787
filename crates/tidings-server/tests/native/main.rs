//! The native API of a running instance, over real sockets and the memory log.

mod bad_input;
mod command_line;
mod common;
mod instance;
mod moody;
mod publish;
mod read;
mod redis;
mod refusals;
