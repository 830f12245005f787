//! Refusals, in the shape that CardSavr's clients read (contract section 1.4).
//!
//! `{"_errors":[{"name","message","property","entity_name","property_name"}],"message"}`: the Java
//! client reads the fields as strings, so every one is always there.

use serde_json::{Value, json};
use tidings_adapter::http::StatusCode;

/// Why a request is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    /// For people; never a secret, never what the client sent.
    pub(crate) message: String,
    /// Which property of the request is wrong; empty if none is.
    pub(crate) property: String,
    /// Of which entity, e.g. `place_card_on_single_site_job`; empty if of none.
    pub(crate) entity: String,
    /// When to come again, seconds; said as `Retry-After`.
    pub(crate) retry_after: Option<u64>,
}

impl Refused {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            property: String::new(),
            entity: String::new(),
            retry_after: None,
        }
    }

    /// 400: this property of the request cannot be used.
    pub(crate) fn bad(property: &str, message: impl Into<String>) -> Self {
        Self {
            property: property.to_owned(),
            ..Self::new(StatusCode::BAD_REQUEST, message)
        }
    }

    /// 401: who asks is not known, or shows a key that is none.
    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    /// 403: not with this role, or not one's own.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// 404.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 409: not in this state.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// 429: come again later.
    pub(crate) fn too_many(retry_after: u64) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too many requests")
        }
    }

    /// 503: not known to be done, may be tried again.
    pub(crate) fn unavailable() -> Self {
        Self {
            retry_after: Some(2),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "try again")
        }
    }

    /// The same refusal, of an entity.
    pub(crate) fn of(mut self, entity: &str) -> Self {
        entity.clone_into(&mut self.entity);
        self
    }

    /// `_errors[].name`: the status in one word, as CardSavr names its errors.
    fn name(&self) -> &'static str {
        match self.status.as_u16() {
            400 => "BadRequest",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            405 => "MethodNotAllowed",
            406 => "NotAcceptable",
            409 => "Conflict",
            413 => "PayloadTooLarge",
            429 => "TooManyRequests",
            503 => "ServiceUnavailable",
            _ => "Error",
        }
    }

    /// The body.
    pub(crate) fn body(&self) -> Value {
        json!({
            "message": self.message,
            "_errors": [{
                "name": self.name(),
                "message": self.message,
                "property": self.property,
                "property_name": self.property,
                "entity_name": self.entity,
            }],
        })
    }
}

/// The log's own words may name hosts: they go to our log, not to the client.
impl From<tidings_adapter::LogError> for Refused {
    fn from(error: tidings_adapter::LogError) -> Self {
        tracing::debug!(%error, "the log did not answer");
        Self::unavailable()
    }
}

impl From<tidings_adapter::CommandError> for Refused {
    fn from(error: tidings_adapter::CommandError) -> Self {
        match error {
            tidings_adapter::CommandError::Undecided(why) => {
                tracing::error!(%why, "a command cannot be decided");
            }
            other => tracing::debug!(error = %other, "a command was not stored"),
        }
        Self::unavailable()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_a_string() {
        let body = Refused::bad("envelope_id", "no such envelope")
            .of("job")
            .body();
        let first = &body["_errors"][0];
        for field in [
            "name",
            "message",
            "property",
            "property_name",
            "entity_name",
        ] {
            assert!(first[field].is_string(), "{field}");
        }
        assert_eq!(body["message"], "no such envelope");
        let plain = Refused::unauthorized("no session").body();
        // Contract T19.
        assert_eq!(
            plain,
            json!({"message": "no session", "_errors": [{"name": "Unauthorized",
                "message": "no session", "property": "", "property_name": "", "entity_name": ""}]})
        );
    }
}
