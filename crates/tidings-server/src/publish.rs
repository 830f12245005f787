//! Publishing over HTTP: `POST /v1/events` in all its content types.
//!
//! A publish is answered after the log has it. A batch is checked whole before any of it is handed
//! to the log, so a mistake in it stores nothing; a line-by-line upload cannot be, so its answer
//! says which line failed and what was stored before it.

pub mod answer;
pub mod binary;
pub mod body;
pub mod lines;
mod safety;
mod trail;
pub mod upload;

use axum::body::Body;
use axum::response::Response;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use tidings_adapter::{Hub, PublishError};
use tidings_core::{Draft, Ingested, Topic};

use crate::auth::Rights;
use crate::limits::PublishLimits;
use crate::native::not_own;
use crate::problem::Problem;
use body::Kind;
use safety::Safety;
use trail::{Mark, Trail};
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
}

impl Publisher<'_> {
    /// Answers `POST /v1/events`.
    ///
    /// # Errors
    /// A [`Problem`]; what was stored in spite of it stands in its `stored`.
    pub async fn publish(self, request: &Parts, body: Body) -> Result<Response, Problem> {
        let (trail, mark) = Trail::begin(self.hub, &request.headers);
        trail.follow(self.store(request, body, &mark)).await
    }

    async fn store(self, request: &Parts, body: Body, mark: &Mark) -> Result<Response, Problem> {
        self.rights.publish_anything()?;
        let kind = Kind::of(&request.headers)?;
        let mut safety = Safety::wanted(self.hub, self.limits, request.uri.query())?;
        let mut upload = Upload::new(body, self.limits.body_timeout);
        if kind == Kind::Lines {
            return lines::publish(self, &mut upload, mark, safety).await;
        }
        let announced = request.headers.get(CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
        let body = upload.whole(announced, self.limits.body_max).await?;
        let drafts = body::drafts(kind, &request.headers, &body, self.limits.batch_events)?;
        drop(body);
        let topics: Vec<Topic> = drafts.iter().map(|draft| draft.topic.clone()).collect();
        let single = drafts.len() == 1;
        let judged: Result<Vec<_>, _> = drafts
            .into_iter()
            .enumerate()
            .map(|(index, draft)| {
                self.judge(draft, mark).map_err(|problem| match single {
                    true => problem,
                    false => problem.with("index", index),
                })
            })
            .collect();
        let judged = judged?;
        self.rights.spend(judged.len(), self.hub.now().uptime)?;
        let results = self.hub.ingest(judged).await;
        // If any of it failed the answer is a problem, which promises nothing beyond `stored`.
        if safety.waits() && results.iter().all(Result::is_ok) {
            let ids = results.iter().flatten().map(|appended| appended.id);
            let stored: Vec<_> = topics.iter().cloned().zip(ids).collect();
            safety.wait(&stored).await;
        }
        answer::batch(&topics, results, safety.told())
    }

    /// What becomes of a draft, if it may be published here.
    fn judge(&self, mut draft: Draft, mark: &Mark) -> Result<Ingested, Problem> {
        self.rights.publish(&draft.topic)?;
        not_own(&draft.topic)?;
        mark.put_on(&mut draft);
        let topic = draft.topic.clone();
        self.hub.ingested(draft).map_err(|error| match error {
            PublishError::Draft(error) => error.into(),
            error => answer::problem(&error).with("topic", topic.as_str()),
        })
    }
}
