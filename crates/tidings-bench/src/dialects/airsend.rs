//! AirSend: users, channels and tokens as a backend makes them, and what their websockets cost.

mod crowd;
mod desk;
mod idle;
mod members;
mod posts;
mod stuck;

use anyhow::Result;
use serde_json::json;

use super::requests::ask_all;
use super::stage::Stage;
use crate::cli::Dialects;
use crate::http::post;

use desk::Desk;

pub(super) use idle::idle;
pub(super) use members::members;
pub(super) use stuck::stuck;

/// What the backend shows to publish.
const INGEST_KEY: &str = "the backend's key";

/// A hub with the dialect, and the backend that says whose bearers are.
#[derive(Debug)]
struct Scene {
    stage: Stage,
    _desk: Desk,
}

impl Scene {
    /// Starts it; `options` are lines for `[adapters.airsend]`.
    async fn set(args: &Dialects, options: &str) -> Result<Self> {
        let desk = Desk::open().await?;
        let whose = desk.address;
        let stage = Stage::set(args, "none", |listen| {
            // Bearers of a backend that is there already: the hub hashes no passwords of thousands.
            format!(
                "[adapters.airsend]\nsecret = \"a secret of the benchmark, of 32 bytes or more\"\n\
                 ingest_key = \"{INGEST_KEY}\"\nlogin = false\nbearer_url = \"http://{whose}/whose\"\n\
                 {options}[adapters.airsend.mount]\nlisten = \"{listen}\"\n"
            )
        })
        .await?;
        Ok(Self { stage, _desk: desk })
    }

    /// Makes these users.
    async fn users(&self, users: impl Iterator<Item = u32>) -> Result<()> {
        let make = |id| {
            let data = json!({"id": id, "email": format!("u{id}@example.com"), "display_name": format!("User {id}")});
            operation("user.upsert", &data)
        };
        ask_all(self.stage.dialect, users.map(make).collect()).await?;
        Ok(())
    }

    /// Makes channels, each of an id and its members, the first of whom creates it.
    async fn channels(&self, channels: impl Iterator<Item = (u32, Vec<u32>)>) -> Result<()> {
        let make = |(id, members): (u32, Vec<u32>)| {
            let channel = json!({"id": id, "channel_name": format!("Channel {id}"), "created_by": members.first()});
            operation(
                "channel.create",
                &json!({"channel": channel, "member_ids": members}),
            )
        };
        ask_all(self.stage.dialect, channels.map(make).collect()).await?;
        Ok(())
    }
}

/// An operation of the backend.
fn operation(op: &str, data: &serde_json::Value) -> Vec<u8> {
    let bearer = format!("Bearer {INGEST_KEY}");
    let body = json!({"op": op, "data": data}).to_string();
    post(
        "/api/v1/internal/rtm.publish",
        &[("authorization", &bearer)],
        &body,
    )
}
