//! Bürokratt's dialect as its users meet it: npm's `eventsource` and pages in Chromium, at two instances of the real
//! binary with one Redis.
//!
//! What single frames and answers look like is the adapter's own tests' affair. Here stands what needs a real client (its
//! way of coming back, its origin, its six connections) or more than one process.

#[path = "burokratt/client.rs"]
mod client;
#[path = "burokratt/cluster.rs"]
mod cluster;
#[path = "burokratt/conversation.rs"]
mod conversation;
#[path = "burokratt/crowd.rs"]
mod crowd;
#[path = "burokratt/gate.rs"]
mod gate;
#[path = "burokratt/guide.rs"]
mod guide;
#[path = "burokratt/http2.rs"]
mod http2;
#[path = "burokratt/pages.rs"]
mod pages;
#[path = "burokratt/resuming.rs"]
mod resuming;
#[path = "burokratt/stalled.rs"]
mod stalled;
#[path = "burokratt/tim.rs"]
mod tim;
#[path = "burokratt/timers.rs"]
mod timers;
#[path = "burokratt/values.rs"]
mod values;
#[path = "burokratt/widgets.rs"]
mod widgets;
