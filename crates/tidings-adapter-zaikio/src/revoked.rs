//! Tokens that were taken back: their ids, from the configuration, a file and an address.
//!
//! When looking fails, what was known stays: a revocation list that is away must neither let anybody
//! back in nor lock everybody out.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use serde::Deserialize;
use tidings_adapter::http::{StatusCode, Uri};
use tidings_adapter::outside::{Call, Outside, OutsideOptions};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Bytes of a list: 40 for each id, so some hundred thousand of tokens that live an hour.
const LIST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Where lists come from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    pub(crate) ids: Vec<String>,
    pub(crate) file: Option<PathBuf>,
    pub(crate) url: Option<Uri>,
    pub(crate) every: Duration,
}

/// The ids as a handle; its last clone to go ends the looking.
#[derive(Debug, Clone)]
pub(crate) struct Revoked {
    lists: Arc<Lists>,
    _ends: Option<Arc<DropGuard>>,
}

#[derive(Debug, Default)]
struct Lists {
    given: HashSet<String>,
    file: RwLock<HashSet<String>>,
    url: RwLock<HashSet<String>>,
}

/// `{"revoked_token_ids":[…]}`, as `GET /api/v1/revoked_access_tokens` answers.
#[derive(Deserialize)]
struct List {
    revoked_token_ids: Vec<String>,
}

fn parse(text: &[u8]) -> Option<HashSet<String>> {
    let list: List = serde_json::from_slice(text).ok()?;
    Some(list.revoked_token_ids.into_iter().collect())
}

impl Revoked {
    /// Reads the file at once, and begins to look at both again and again.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(crate) fn start(sources: Sources) -> Result<Self, String> {
        let lists = Arc::new(Lists {
            given: sources.ids.iter().cloned().collect(),
            ..Lists::default()
        });
        if let Some(path) = &sources.file {
            let text = std::fs::read(path).map_err(|error| error.to_string())?;
            *lists.file.write() = parse(&text).ok_or("not {\"revoked_token_ids\":[…]}")?;
        }
        if sources.file.is_none() && sources.url.is_none() {
            return Ok(Self { lists, _ends: None });
        }
        let end = CancellationToken::new();
        let looking = look(sources, lists.clone());
        tokio::spawn(end.clone().run_until_cancelled_owned(looking));
        Ok(Self {
            lists,
            _ends: Some(Arc::new(end.drop_guard())),
        })
    }

    pub(crate) fn contains(&self, id: &str) -> bool {
        let lists = &self.lists;
        lists.given.contains(id) || lists.file.read().contains(id) || lists.url.read().contains(id)
    }
}

async fn look(sources: Sources, lists: Arc<Lists>) {
    let outside = Outside::new(OutsideOptions {
        answer_bytes_max: LIST_BYTES_MAX,
        ..OutsideOptions::default()
    });
    loop {
        if let Some(url) = &sources.url {
            match outside.call(Call::get(url.clone())).await {
                Ok(answer) if answer.status == StatusCode::OK => match parse(&answer.body) {
                    Some(ids) => *lists.url.write() = ids,
                    None => tracing::warn!("the list of revoked tokens is none"),
                },
                Ok(answer) => {
                    tracing::warn!(status = %answer.status, "the list of revoked tokens is away");
                }
                Err(error) => tracing::warn!(%error, "the list of revoked tokens is away"),
            }
        }
        tokio::time::sleep(sources.every).await;
        if let Some(path) = sources.file.clone() {
            // A file system may block.
            let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
            match read.ok().and_then(Result::ok).as_deref().and_then(parse) {
                Some(ids) => *lists.file.write() = ids,
                None => tracing::warn!("the file of revoked tokens cannot be read"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_looked_at_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("revoked.json");
        std::fs::write(&path, r#"{"revoked_token_ids":["a"]}"#).expect("written");
        let sources = Sources {
            ids: vec!["z".into()],
            file: Some(path.clone()),
            every: Duration::from_millis(5),
            ..Sources::default()
        };
        let revoked = Revoked::start(sources.clone()).expect("good");
        assert!(revoked.contains("a") && revoked.contains("z") && !revoked.contains("b"));
        std::fs::write(&path, r#"{"revoked_token_ids":["b"]}"#).expect("written");
        let seen = async {
            while revoked.contains("a") || !revoked.contains("b") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), seen)
            .await
            .expect("seen");
        std::fs::write(&path, "garbage").expect("written");
        assert!(Revoked::start(sources).is_err());
    }
}
