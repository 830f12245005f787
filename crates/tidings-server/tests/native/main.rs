//! The native API of a running instance, over real sockets and the memory log.

mod abuse;
mod alone;
mod bad_input;
mod command_line;
mod common;
mod durability;
mod identity;
mod http2;
mod http2_abuse;
mod instance;
mod moody;
mod mounts;
mod publish;
mod read;
mod readiness;
mod receiver;
mod redis;
mod refusals;
mod token_command;
mod traces;
mod tls;
mod tls_client;
