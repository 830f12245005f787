//! The CardSavr dialect as its users meet it: Strivve's SDK from npm, unmodified, in node and in a browser's page, at two
//! instances of the real binary over TLS with one Redis.
//!
//! Single rules are the adapter's own tests' affair. Here stands what the contract's checks say, with the real client,
//! and what needs more than one process: instances that are killed, pollers that race, the simulator.

#[path = "cardsavr/checks.rs"]
mod checks;
#[path = "cardsavr/cluster.rs"]
mod cluster;
#[path = "cardsavr/curl.rs"]
mod curl;
#[path = "cardsavr/durable.rs"]
mod durable;
#[path = "cardsavr/figures.rs"]
mod figures;
#[path = "cardsavr/guide.rs"]
mod guide;
#[path = "cardsavr/jobs.rs"]
mod jobs;
#[path = "cardsavr/messages.rs"]
mod messages;
#[path = "cardsavr/plain.rs"]
mod plain;
#[path = "cardsavr/query.rs"]
mod query;
#[path = "cardsavr/requests.rs"]
mod requests;
#[path = "cardsavr/sdk.rs"]
mod sdk;
#[path = "cardsavr/sessions.rs"]
mod sessions;
#[path = "cardsavr/timers.rs"]
mod timers;
#[path = "cardsavr/webhook.rs"]
mod webhook;
