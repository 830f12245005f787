//! How an answer is said: in clear, or encrypted and signed.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body::{Frame, SizeHint};
use serde_json::Value;
use tidings_adapter::axum::body::Body;
use tidings_adapter::axum::response::Response;
use tidings_adapter::bytes::Bytes;
use tidings_adapter::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use tidings_adapter::http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::{Sleep, sleep};

use super::admit::COOKIE_NAME;
use crate::answer::{Answer, Receipt};
use crate::crypto::{Key, Sealing, Signed, envelope, random};
use crate::errors::Refused;

/// How a client is answered.
#[derive(Debug)]
pub(super) enum Voice {
    /// As it is.
    Clear,
    /// Encrypted and signed.
    Sealed(Box<Seal>),
}

/// What encrypts and signs a reply.
#[derive(Debug)]
pub(super) struct Seal {
    pub(super) key: Key,
    pub(super) sealing: Sealing,
    /// The request's path and query, as its client signed them.
    pub(super) target: String,
    /// The request's: the SDK wants its application's name again.
    pub(super) authorization: String,
}

impl Voice {
    pub(super) fn sealing(&self) -> Sealing {
        match self {
            Self::Clear => Sealing::default(),
            Self::Sealed(seal) => seal.sealing,
        }
    }

    /// The reply.
    pub(super) fn reply(self, now_ms: u64, answered: Result<Answer, Refused>) -> Response {
        let (answer, retry_after) = match answered {
            Ok(answer) => (answer, None),
            Err(refused) => {
                let answer = Answer {
                    status: refused.status,
                    ..Answer::ok(refused.body())
                };
                (answer, refused.retry_after)
            }
        };
        // Who is not let in may have no key, or another one.
        let voice = match self {
            Self::Sealed(_) if answer.status == StatusCode::UNAUTHORIZED => Self::Clear,
            voice => voice,
        };
        let mut headers = HeaderMap::new();
        let body = match (voice, &answer.body) {
            (Self::Clear, body) => body.as_ref().map(Value::to_string).unwrap_or_default(),
            (Self::Sealed(seal), body) => match seal.say(body.as_ref(), now_ms, &mut headers) {
                Some(body) => body,
                None => return broken(),
            },
        };
        if answer.body.is_some() {
            let json = HeaderValue::from_static("application/json; charset=utf-8");
            headers.insert(CONTENT_TYPE, json);
        }
        // A poll that a cache answers would be lost, and what was true a moment ago need not be.
        let kept = if answer.no_store {
            "no-store"
        } else {
            "private, no-cache"
        };
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(kept));
        let paging = answer.paging.map(|paging| paging.print());
        for (name, text) in [("x-cardsavr-paging", paging), ("set-cookie", answer.cookie)] {
            let text = text.map(|text| match name {
                "set-cookie" => format!("{COOKIE_NAME}={text}; Path=/; HttpOnly; SameSite=Strict"),
                _ => text,
            });
            if let Some(Ok(value)) = text.map(HeaderValue::try_from) {
                headers.insert(name, value);
            }
        }
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        let mut response = Response::new(whole(body.into(), answer.receipt));
        *response.status_mut() = answer.status;
        *response.headers_mut() = headers;
        response
    }
}

impl Seal {
    /// Encrypts a body, and adds the signature over exactly what goes over the wire.
    pub(super) fn say(
        &self,
        body: Option<&Value>,
        now_ms: u64,
        headers: &mut HeaderMap,
    ) -> Option<String> {
        let body = match body {
            None => String::new(),
            Some(body) => {
                let clear = body.to_string();
                let sealed = self.sealing.seal(&self.key, clear.as_bytes(), random());
                envelope(&sealed?)
            }
        };
        // Requests and replies are signed alike. A time that begins with 0 is one to clients, and no
        // request's: so a reply cannot be sent back as a request.
        let nonce = format!("0{now_ms}");
        let signed = Signed {
            target: &self.target,
            authorization: &self.authorization,
            nonce: &nonce,
            body: body.as_bytes(),
        };
        let signature = signed.sign(&self.key);
        for (name, text) in [
            ("x-cardsavr-authorization", &self.authorization),
            ("x-cardsavr-nonce", &nonce),
            ("x-cardsavr-signature", &signature),
        ] {
            headers.insert(name, HeaderValue::from_str(text).ok()?);
        }
        Some(body)
    }
}

/// The library refused to encrypt; nothing of the answer may go out then.
fn broken() -> Response {
    tracing::error!("a reply could not be encrypted");
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// A body, with a receipt where somebody wants to know whether it was given.
fn whole(bytes: Bytes, receipt: Option<Receipt>) -> Body {
    match receipt {
        None => Body::from(bytes),
        Some(mut receipt) if bytes.is_empty() => {
            receipt.given();
            Body::empty()
        }
        Some(receipt) => Body::new(Given {
            rest: bytes,
            held: None,
            receipt,
        }),
    }
}

/// How long the last byte of such a body is held back. No client can read an answer without it, so
/// one that is seen to leave meanwhile has certainly not had it. Longer than the news of a broken
/// connection takes on most ways, short against the seconds between polls.
const HELD: Duration = Duration::from_millis(100);

/// A body in two pieces: all but its last byte, and, a moment after the connection took that, the last
/// one. Asked for the second piece, the connection has not failed so far. A body that goes out at
/// once would be taken and dropped before the first write, and a client that left without a word
/// would not be noticed.
struct Given {
    rest: Bytes,
    /// The first piece was taken, the connection is writing it.
    held: Option<Pin<Box<Sleep>>>,
    receipt: Receipt,
}

impl http_body::Body for Given {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(held) = &mut self.held {
            ready!(held.as_mut().poll(context));
            self.held = None;
        }
        if self.rest.len() > 1 {
            self.held = Some(Box::pin(sleep(HELD)));
            let most = self.rest.len() - 1;
            return Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(most)))));
        }
        self.receipt.given();
        let last = std::mem::take(&mut self.rest);
        Poll::Ready((!last.is_empty()).then(|| Ok(Frame::data(last))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests;
