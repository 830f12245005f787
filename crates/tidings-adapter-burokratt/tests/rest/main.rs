//! The REST endpoints over real HTTP, on two instances that share one log: what is done on one is seen
//! on the other.

mod bad;
mod chats;
mod client;
mod health;
mod messages;
mod notify;
mod outage;
mod queue;
mod tim;
