//! A publish's place in a trace: from the request's headers, into its span and its events.

use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderMap;
use tidings_adapter::Hub;
use tidings_adapter::trace::{Span, Step, TraceContext};
use tidings_core::Draft;
use tracing::Instrument as _;

use crate::problem::Problem;

/// A publish's own span, as far as it is shown.
pub(super) struct Trail {
    span: Option<Box<dyn Span>>,
    /// For the log lines.
    trace_id: Option<u128>,
}

/// The context that a publish's events carry.
#[derive(Debug, Clone, Default)]
pub(super) struct Mark {
    parent: Option<Arc<str>>,
    state: Option<Arc<str>>,
}

impl Trail {
    /// Begins with a request. Without an observer and without a context in the headers there is
    /// nothing to leave.
    pub(super) fn begin(hub: &Hub, headers: &HeaderMap) -> (Self, Mark) {
        let given = given(headers);
        let observer = hub.observer();
        let span =
            observer.and_then(|one| one.open(Step::Publish, given.as_ref(), SystemTime::now()));
        // A trace that is not shown here is passed on as it came: others may show it.
        let context = span.as_ref().map(|span| span.context()).or(given);
        let trace_id = context.as_ref().map(|one| one.trace_id);
        let mark = Mark::new(context);
        (Self { span, trace_id }, mark)
    }

    /// Performs the publish inside its span: every log line of it carries the trace id.
    pub(super) async fn follow<T>(
        mut self,
        publish: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        let Some(trace_id) = self.trace_id else {
            return publish.await;
        };
        let trace_id = format!("{trace_id:032x}");
        let result = publish
            .instrument(tracing::info_span!("publish", trace_id))
            .await;
        if let Some(span) = &mut self.span {
            match &result {
                Ok(_) => span.number("http.response.status_code", 201),
                Err(problem) => {
                    let status = problem.cause.status();
                    span.number("http.response.status_code", status.into());
                    span.text("error.type", problem.cause.slug());
                    if status >= 500 {
                        span.failed(problem.cause.title());
                    }
                }
            }
        }
        result
    }
}

impl Mark {
    fn new(context: Option<TraceContext>) -> Self {
        Self {
            parent: context.as_ref().map(|one| one.to_string().into()),
            state: context.and_then(|one| one.state),
        }
    }

    /// Puts the context on a draft, unless its publisher has given it one.
    pub(super) fn put_on(&self, draft: &mut Draft) {
        if self.parent.is_none() {
            return;
        }
        let attributes = draft.attributes.get_or_insert_default();
        if attributes.trace_parent.is_none() {
            attributes.trace_parent.clone_from(&self.parent);
            attributes.trace_state.clone_from(&self.state);
        }
    }
}

/// The context in a request's headers (W3C Trace Context §3). Two parents are none.
fn given(headers: &HeaderMap) -> Option<TraceContext> {
    let mut parents = headers.get_all("traceparent").iter();
    let (parent, None) = (parents.next()?.to_str().ok()?, parents.next()) else {
        return None;
    };
    let states = headers.get_all("tracestate").iter();
    let states: Vec<&str> = states.filter_map(|one| one.to_str().ok()).collect();
    TraceContext::parse(parent.trim(), Some(&states.join(",")))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use tidings_core::{Attributes, Topic};

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const OWN: &str = "00-11111111111111111111111111111111-2222222222222222-01";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn the_headers_of_a_request_hold_one_parent() {
        type Case<'a> = (&'a [(&'static str, &'static str)], Option<&'a str>);
        let table: &[Case<'_>] = &[
            (&[], None),
            (&[("traceparent", PARENT)], None),
            (
                &[("traceparent", PARENT), ("tracestate", "a=1")],
                Some("a=1"),
            ),
            (
                &[
                    ("traceparent", PARENT),
                    ("tracestate", "a=1"),
                    ("tracestate", "b=2"),
                ],
                Some("a=1,b=2"),
            ),
        ];
        for (pairs, state) in table {
            let context = given(&headers(pairs));
            assert_eq!(context.is_some(), !pairs.is_empty());
            assert_eq!(context.and_then(|one| one.state).as_deref(), *state);
        }
        let two = [("traceparent", PARENT), ("traceparent", OWN)];
        assert_eq!(given(&headers(&two)), None);
        assert_eq!(given(&headers(&[("traceparent", "x")])), None);
        assert_eq!(given(&headers(&[("tracestate", "a=1")])), None);
    }

    #[test]
    fn what_the_publisher_says_of_its_event_is_not_touched() {
        let mark = Mark::new(given(&headers(&[
            ("traceparent", PARENT),
            ("tracestate", "a=1"),
        ])));
        let topic = Topic::parse("demo/a").expect("valid");
        let mut plain = Draft::new(topic.clone(), "t", "1");
        mark.put_on(&mut plain);
        let attributes = plain.attributes.expect("made");
        assert_eq!(attributes.trace_parent.as_deref(), Some(PARENT));
        assert_eq!(attributes.trace_state.as_deref(), Some("a=1"));
        let own = Attributes {
            trace_parent: Some(OWN.into()),
            ..Attributes::default()
        };
        let mut marked = Draft {
            attributes: Some(Box::new(own.clone())),
            ..Draft::new(topic, "t", "1")
        };
        mark.put_on(&mut marked);
        assert_eq!(marked.attributes.as_deref(), Some(&own));
        let mut untraced = Draft::new(Topic::parse("demo/a").expect("valid"), "t", "1");
        Mark::default().put_on(&mut untraced);
        assert_eq!(untraced.attributes, None, "nothing is made for nothing");
    }
}
