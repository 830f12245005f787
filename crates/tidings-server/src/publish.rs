//! Publishing over HTTP: `POST /v1/events` in all its content types.
//!
//! A publish is answered after the log has it. A batch is checked whole before any of it is handed
//! to the log, so a mistake in it stores nothing; a line-by-line upload cannot be, so its answer
//! says which line failed and what was stored before it.

pub mod answer;
pub mod binary;
pub mod body;
pub mod lines;
pub mod upload;

use axum::body::Body;
use axum::response::Response;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use tidings_adapter::Hub;
use tidings_core::{Draft, Topic};

use crate::auth::Rights;
use crate::limits::PublishLimits;
use crate::problem::{Cause, Problem};
use body::Kind;
use upload::Upload;

/// What a publish needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Publisher<'a> {
    /// Where it goes.
    pub hub: &'a Hub,
    /// Whose it is.
    pub rights: &'a Rights,
    /// The bounds.
    pub limits: &'a PublishLimits,
    /// Roots of topics that adapters own and take no foreign events for.
    pub owned: &'a [&'static str],
}

impl Publisher<'_> {
    /// Answers `POST /v1/events`.
    ///
    /// # Errors
    /// A [`Problem`]; what was stored in spite of it stands in its `stored`.
    pub async fn publish(self, request: &Parts, body: Body) -> Result<Response, Problem> {
        self.rights.publish_anything()?;
        let kind = Kind::of(&request.headers)?;
        let mut upload = Upload::new(body, self.limits.body_timeout);
        if kind == Kind::Lines {
            return lines::publish(self, &mut upload).await;
        }
        let announced = request.headers.get(CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
        let body = upload.whole(announced, self.limits.body_max).await?;
        let drafts = body::drafts(kind, &request.headers, &body, self.limits.batch_events)?;
        drop(body);
        for (index, draft) in drafts.iter().enumerate() {
            self.may(draft).map_err(|problem| match drafts.len() {
                1 => problem,
                _ => problem.with("index", index),
            })?;
        }
        let topics: Vec<Topic> = drafts.iter().map(|draft| draft.topic.clone()).collect();
        answer::batch(&topics, self.hub.publish(drafts).await)
    }

    /// Whether this draft may be published here.
    fn may(&self, draft: &Draft) -> Result<(), Problem> {
        self.rights.publish(&draft.topic)?;
        let root = draft.topic.root();
        if self.owned.contains(&root) {
            let detail = format!("topics under `{root}` are published through their adapter");
            return Err(
                Problem::new(Cause::ForbiddenTopic, detail).with("topic", draft.topic.as_str())
            );
        }
        Ok(())
    }
}
