//! Looking at components, and what their answers say.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use tidings_adapter::Hub;
use tidings_adapter::http::header::{CONTENT_TYPE, HeaderValue};
use tidings_adapter::http::{StatusCode, Uri};
use tidings_adapter::outside::{Call, Outside, OutsideOptions};

use super::{Ask, Seen, command};
use crate::options::Settings;

/// Bytes of an answer; a few hundred are usual.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a version.
const VERSION_BYTES_MAX: usize = 64;

/// After the log was away: about the time in which it comes back.
const AGAIN: Duration = Duration::from_secs(1);

/// Takes turns looking at the components, until the hub leaves. Ends at once when there are none.
pub(crate) async fn watch(hub: Hub, components: Vec<(String, Option<Uri>)>, settings: Times) {
    let watched: Vec<(String, Uri)> = components
        .into_iter()
        .filter_map(|(name, url)| Some((name, url?)))
        .collect();
    if watched.is_empty() {
        return;
    }
    let outside = Outside::new(OutsideOptions {
        timeout: settings.timeout,
        answer_bytes_max: ANSWER_BYTES_MAX,
        ..OutsideOptions::default()
    });
    let leaving = hub.draining().clone();
    let turns = async {
        loop {
            let pause = turn(&hub, &outside, &watched, settings).await;
            // Instances that wait for the same moment do not all ask at it.
            tokio::time::sleep(pause.mul_f64(1.0 + rand::random::<f64>() * 0.02)).await;
        }
    };
    leaving.run_until_cancelled(turns).await;
}

/// How often, and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    every: Duration,
    timeout: Duration,
}

impl Times {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            every: settings.options.component_every.0,
            timeout: settings.options.component_timeout.0,
        }
    }
}

/// One turn, if it is this instance's; how long to wait for the next.
async fn turn(
    hub: &Hub,
    outside: &Outside,
    watched: &[(String, Uri)],
    settings: Times,
) -> Duration {
    let every_ms = u64::try_from(settings.every.as_millis()).unwrap_or(u64::MAX);
    let Ok(decided) = hub.command(command(&Ask::Turn { every_ms })).await else {
        return AGAIN;
    };
    let wait: u64 = std::str::from_utf8(&decided.answer)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(every_ms);
    if wait > 0 {
        return Duration::from_millis(wait);
    }
    let looks = watched.iter().map(async |(name, url)| {
        // For both tries together.
        let seen = tokio::time::timeout(settings.timeout, look(outside, url)).await;
        (name.clone(), seen.unwrap_or_default())
    });
    let seen: BTreeMap<String, Seen> = join_all(looks).await.into_iter().collect();
    if let Err(error) = hub.command(command(&Ask::Seen(seen))).await {
        tracing::debug!(%error, "what was seen of the components was not noted");
    }
    settings.every
}

/// Asks a component with GET, and with POST where it takes no GET.
async fn look(outside: &Outside, url: &Uri) -> Seen {
    let mut answer = outside.call(Call::get(url.clone())).await;
    let no_get = |status| {
        matches!(
            status,
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_FOUND
        )
    };
    if answer.as_ref().is_ok_and(|answer| no_get(answer.status)) {
        let mut call = Call::post(url.clone(), "{}");
        let json = HeaderValue::from_static("application/json");
        call.headers.insert(CONTENT_TYPE, json);
        answer = outside.call(call).await;
    }
    match answer {
        Ok(answer) if answer.status.is_success() => Seen {
            up: true,
            version: version(&answer.body),
        },
        _ => Seen::default(),
    }
}

/// The version that an answer names: `version`, also within `response` or `data` as Ruuter wraps it.
fn version(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let places = [Some(&body), body.get("response"), body.get("data")];
    let found = places
        .into_iter()
        .flatten()
        .find_map(|at| at.get("version"))?;
    let mut text = match found {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    text.retain(|letter| !letter.is_control());
    let mut end = VERSION_BYTES_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1; // 0 is one
    }
    text.truncate(end);
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_are_found() {
        for (body, found) in [
            (r#"{"appName":"byk-tim","version":"1.0"}"#, Some("1.0")),
            (r#"{"version":2}"#, Some("2")),
            (r#"{"response":{"version":"3"}}"#, Some("3")),
            (r#"{"data":{"version":"4"}}"#, Some("4")),
            (r#"{"version":""}"#, None),
            (r#"{"version":{}}"#, None),
            ("OK", None),
            ("[]", None),
            ("", None),
        ] {
            assert_eq!(version(body.as_bytes()).as_deref(), found, "{body}");
        }
        let long = format!(r#"{{"version":"{}"}}"#, "ä".repeat(100));
        assert_eq!(version(long.as_bytes()).map(|text| text.len()), Some(64));
    }
}
