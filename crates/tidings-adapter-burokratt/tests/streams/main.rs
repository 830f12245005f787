//! Event streams over real sockets, on two instances with one log.

mod auth;
mod client;
mod delivery;
mod ended;
mod exam;
mod resuming;
mod several;
mod slow;
mod states;
