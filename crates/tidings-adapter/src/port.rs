//! The HTTPS client as the port through which records and sessions call servers outside.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tidings_core::{BoxFuture, Call, CallAnswer, CallError};

use crate::outside::{self, Outside, OutsideError};

impl tidings_core::Outside for Outside {
    fn call(&self, call: Call) -> BoxFuture<'_, Result<CallAnswer, CallError>> {
        Box::pin(async move {
            let patience = call.patience;
            let request = request(call)?;
            let answered = tokio::time::timeout(patience, self.call(request)).await;
            let answer = answered.map_err(|_| CallError::TimedOut(patience))?;
            let answer = answer.map_err(|error| match error {
                OutsideError::TimedOut { within, .. } => CallError::TimedOut(within),
                OutsideError::TooLarge { max, .. } => CallError::TooLarge(max),
                other => CallError::Failed(other.to_string()),
            })?;
            Ok(CallAnswer {
                status: answer.status.as_u16(),
                body: answer.body,
            })
        })
    }
}

/// The request that a call asks for.
fn request(call: Call) -> Result<outside::Call, CallError> {
    // What does not fit is not repeated: a header may be a secret.
    let unfit = |what: &str| CallError::Failed(format!("the call has {what}"));
    let mut headers = HeaderMap::new();
    for (name, value) in &call.headers {
        let name = HeaderName::try_from(&**name).map_err(|_| unfit("a bad header name"))?;
        let value = HeaderValue::try_from(&**value).map_err(|_| unfit("a bad header value"))?;
        headers.append(name, value);
    }
    Ok(outside::Call {
        method: Method::try_from(&*call.method).map_err(|_| unfit("a bad method"))?,
        url: call.url.parse().map_err(|_| unfit("a bad address"))?,
        headers,
        body: call.body,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn call(method: &str, url: &str, header: (&str, &str)) -> Call {
        Call {
            method: method.into(),
            url: url.into(),
            headers: vec![(header.0.into(), header.1.into())],
            body: bytes::Bytes::from_static(b"{}"),
            patience: Duration::from_secs(1),
        }
    }

    #[test]
    fn what_cannot_be_a_request_fails_without_being_repeated() {
        let good = ("x-signature", "abc");
        assert!(request(call("POST", "https://a.test/b", good)).is_ok());
        for bad in [
            call("PO ST", "https://a.test/b", good),
            call("POST", "https://a test", good),
            call("POST", "https://a.test/b", ("x y", "secret")),
            call("POST", "https://a.test/b", ("x", "sec\nret")),
        ] {
            let error = request(bad).expect_err("no request");
            assert!(!error.to_string().contains("sec"), "{error}");
        }
    }
}
