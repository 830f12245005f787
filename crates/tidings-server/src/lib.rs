//! The tidings server: native API, configuration, authentication and the command line.
pub mod config;
pub mod print;
pub mod problem;
pub mod publish;
pub mod read;
pub mod wire;
