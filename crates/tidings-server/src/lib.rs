//! The tidings server: native API, configuration, authentication and the command line.
//!
//! In reading order: [`app`] is what a `main` starts; [`native`] has the routes; [`publish`] and
//! [`wire`] take events in, [`read`] and [`print`](mod@print) hand them out; [`problem`] is every refusal in
//! one table; [`auth`] knows the keys, [`config`] everything that can be set; [`edge`] decides who is
//! reached where, [`serve`] owns the sockets.
//!
//! What is absent: no rule of the log and no protocol of an adapter is written here. This crate
//! names the concrete logs and dialects, and nothing below it does.

pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
mod dialects;
pub mod edge;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
mod health;
pub mod ingest;
pub mod instance;
pub mod limits;
mod log;
pub mod native;
pub mod print;
pub mod problem;
pub mod publish;
pub mod read;
pub mod serve;
pub mod telemetry;
pub mod wire;

pub use app::{App, AppError};
pub use instance::{Instance, StartError, Waiting};
