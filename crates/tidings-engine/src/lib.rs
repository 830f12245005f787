//! The engine: one [`Hub`] per instance over any log.
//!
//! The log is the queue. A connection holds a cursor in a [`Reader`]; it is woken, takes the events
//! after its cursor from the [`window`] (shared, decoded, printed once per protocol variant), and
//! moves its cursor at its own pace. When it falls behind the window it reads from the log by topic
//! until it is level again. So history, live delivery, replay and slow clients are one path, and
//! memory does not grow with slow clients.
//!
//! In reading order: [`hub`] is the handle; [`follow`] tails the log into the [`window`]; [`reader`]
//! is a connection's set of subscriptions, each of which is a [`subscription`]; [`judge`] asks the
//! log for verdicts on behalf of all who wait; [`records`] decides commands and deadlines and
//! relays outboxes; [`views`] keeps what is derived from records; [`limits`] holds every bound.
//!
//! What is absent: no HTTP, no socket, no adapter and no concrete log is named here.

pub mod delivered;
pub mod follow;
pub mod hub;
pub mod judge;
pub mod limits;
pub mod metrics;
pub mod probe;
pub mod reader;
pub mod records;
pub mod subscription;
pub mod trace;
pub mod views;
pub mod wake;
pub mod window;

pub use hub::{Health, Hub, HubOptions, Ownership, PublishError, ReadPage};
pub use limits::Limits;
pub use metrics::Slow;
pub use probe::Probe;
pub use reader::{Delivery, Reader};
pub use records::Rules;
pub use records::indexes::Indexed;
pub use views::{Depends, View, ViewError, Viewing};
