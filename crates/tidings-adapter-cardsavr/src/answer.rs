//! What a route answers, before it is encrypted and signed.

use std::fmt;

use serde_json::Value;
use tidings_adapter::http::StatusCode;

use crate::paging::Paging;

/// An answer.
#[derive(Default)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// `None`: no body and no content type; an empty JSON body would make the SDK throw.
    pub(crate) body: Option<Value>,
    /// Said in the header `x-cardsavr-paging`.
    pub(crate) paging: Option<Paging>,
    /// `Cache-Control: no-store`; for GETs that change something.
    pub(crate) no_store: bool,
    /// Set as the cookie of a session in unsigned mode.
    pub(crate) cookie: Option<String>,
    /// Set by [`Answer::if_lost`].
    pub(crate) receipt: Option<Receipt>,
}

impl fmt::Debug for Answer {
    /// Its body may be a session's token, an access key, a card.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Answer");
        shown.field("status", &self.status).finish_non_exhaustive()
    }
}

impl Answer {
    /// 200 with a body.
    pub(crate) fn ok(body: impl Into<Value>) -> Self {
        Self {
            body: Some(body.into()),
            ..Self::default()
        }
    }

    /// 201 with a body.
    pub(crate) fn created(body: impl Into<Value>) -> Self {
        Self {
            status: StatusCode::CREATED,
            ..Self::ok(body)
        }
    }

    /// 200 without a body.
    pub(crate) fn empty() -> Self {
        Self::default()
    }

    /// With paging.
    pub(crate) fn paged(mut self, paging: Paging) -> Self {
        self.paging = Some(paging);
        self
    }

    /// Not to be kept by caches.
    pub(crate) fn no_store(mut self) -> Self {
        self.no_store = true;
        self
    }

    /// Calls this once if the answer was certainly not given to the client's connection whole: the
    /// client went before it was printed, or the connection broke while it was written. Not called
    /// after all of it was handed to the connection, which does not prove that it arrived. Must
    /// not block; spawn what takes time.
    pub(crate) fn if_lost(mut self, act: impl FnOnce() + Send + 'static) -> Self {
        self.receipt = Some(Receipt(Some(Box::new(act))));
        self
    }
}

/// Does something when it is dropped, unless it was told that all is well.
pub(crate) struct Receipt(Option<Box<dyn FnOnce() + Send>>);

impl Receipt {
    /// The whole answer was handed to the connection.
    pub(crate) fn given(&mut self) {
        self.0 = None;
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(act) = self.0.take() {
            act();
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipt")
    }
}
