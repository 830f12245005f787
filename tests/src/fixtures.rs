//! The sample events of the seed documents, byte for byte.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// One sample event.
#[derive(Debug, Clone)]
pub struct Fixture {
    /// Where it is published.
    pub topic: String,
    /// What it is.
    pub kind: String,
    /// Who says it.
    pub source: String,
    /// JSON exactly as the document prints it.
    pub data: String,
}

#[derive(Deserialize)]
struct Entry {
    file: String,
    topic: String,
    #[serde(rename = "type")]
    kind: String,
    source: String,
}

/// All of them, in the order of `tests/fixtures/index.json`.
///
/// # Errors
/// When a file cannot be read.
pub fn fixtures() -> Result<Vec<Fixture>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let index =
        std::fs::read_to_string(folder.join("index.json")).context("the fixtures' index")?;
    let entries: Vec<Entry> = serde_json::from_str(&index)?;
    let load = |entry: Entry| {
        let data = std::fs::read_to_string(folder.join(&entry.file))
            .with_context(|| entry.file.clone())?;
        Ok(Fixture {
            topic: entry.topic,
            kind: entry.kind,
            source: entry.source,
            data: data.trim().to_owned(),
        })
    };
    entries.into_iter().map(load).collect()
}
