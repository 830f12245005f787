//! Bürokratt: chats as widgets begin them, and what their event streams cost.

mod idle;
mod streams;
mod views;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::requests::ask_all;
use super::stage::Stage;
use crate::cli::Dialects;
use crate::http::post;

pub(super) use idle::idle;
pub(super) use views::views;

/// A hub with the dialect, open to everybody.
async fn stage(args: &Dialects) -> Result<Stage> {
    Stage::set(args, "none", |listen| {
        format!(
            "[adapters.burokratt]\nauth = \"off\"\n[adapters.burokratt.mount]\nlisten = \"{listen}\"\n"
        )
    })
    .await
}

/// Begins chats, each with this for its first message; their ids, in the same order.
async fn begin(stage: &Stage, contents: impl Iterator<Item = String>) -> Result<Vec<String>> {
    let answers = ask_all(
        stage.dialect,
        contents.map(|content| init_chat(&content)).collect(),
    );
    let ids = answers.await?.into_iter().map(|answer| id_of(&answer));
    ids.collect()
}

fn init_chat(content: &str) -> Vec<u8> {
    let body = json!({
        "message": {"content": content, "authorTimestamp": "2026-11-21T10:00:00.000Z", "authorRole": "end-user"},
        "endUserTechnicalData": {"endUserOs": "Linux", "endUserUrl": "https://example.ee/"},
    });
    post("/init-chat", &[], &body.to_string())
}

fn claim(chat: &str, by: &str) -> Vec<u8> {
    let body =
        json!({"id": chat, "customerSupportId": "EE30303039914", "customerSupportDisplayName": by});
    post("/cs-claim-chat", &[], &body.to_string())
}

/// The id in what stands under an answer's one key.
fn id_of(answer: &Value) -> Result<String> {
    let chat = answer["data"]
        .as_object()
        .and_then(|data| data.values().next());
    let id = chat.and_then(|chat| chat["id"].as_str());
    Ok(id.context("an answer without a chat")?.to_owned())
}
