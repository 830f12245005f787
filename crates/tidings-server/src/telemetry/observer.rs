//! The engine's port over OpenTelemetry: contexts there and back, steps as spans.

use std::str::FromStr as _;
use std::time::SystemTime;

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _,
    TraceFlags, TraceId, TraceState, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, SpanProcessor};
use tidings_adapter::trace::{Observer, Span, Step, TraceContext};

/// Makes spans of what the engine shows.
#[derive(Debug)]
pub(super) struct Otlp {
    tracer: SdkTracer,
}

impl Otlp {
    /// Spans go to `queue`. Whoever began a trace elsewhere has decided whether it is shown; of
    /// those that begin here this share is.
    pub(super) fn new(queue: impl SpanProcessor + 'static, share: f64, resource: Resource) -> Self {
        let root = Sampler::TraceIdRatioBased(share);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(queue)
            .with_sampler(Sampler::ParentBased(Box::new(root)))
            .with_resource(resource)
            .build();
        Self {
            tracer: provider.tracer("tidings"),
        }
    }
}

impl Observer for Otlp {
    fn open(
        &self,
        step: Step,
        parent: Option<&TraceContext>,
        began: SystemTime,
    ) -> Option<Box<dyn Span>> {
        let parent = match parent {
            Some(parent) => Context::new().with_remote_span_context(span_context(parent)),
            None => Context::new(),
        };
        let builder = SpanBuilder::from_name(step.as_str())
            .with_kind(kind(step))
            .with_start_time(began);
        let span = self.tracer.build_with_context(builder, &parent);
        if !span.span_context().is_sampled() {
            return None;
        }
        Some(Box::new(Shown(span)))
    }
}

/// As the semantic conventions for messaging have it, where they have it.
const fn kind(step: Step) -> SpanKind {
    match step {
        Step::Publish => SpanKind::Server,
        Step::Append => SpanKind::Client,
        Step::Tail => SpanKind::Consumer,
        Step::Deliver => SpanKind::Producer,
    }
}

fn span_context(context: &TraceContext) -> SpanContext {
    // A state that is not well formed is not passed on (W3C Trace Context §3.3.1).
    let state = context.state.as_deref();
    let state = state.and_then(|state| TraceState::from_str(state).ok());
    SpanContext::new(
        TraceId::from_bytes(context.trace_id.to_be_bytes()),
        SpanId::from_bytes(context.span_id.to_be_bytes()),
        TraceFlags::new(context.flags),
        true,
        state.unwrap_or_default(),
    )
}

/// A span that ends when it is dropped.
struct Shown(opentelemetry_sdk::trace::Span);

impl Span for Shown {
    fn context(&self) -> TraceContext {
        let context = self.0.span_context();
        let state = context.trace_state().header();
        TraceContext {
            trace_id: u128::from_be_bytes(context.trace_id().to_bytes()),
            span_id: u64::from_be_bytes(context.span_id().to_bytes()),
            flags: context.trace_flags().to_u8(),
            state: (!state.is_empty()).then(|| state.into()),
        }
    }

    fn text(&mut self, key: &'static str, value: &str) {
        self.0.set_attribute(KeyValue::new(key, value.to_owned()));
    }

    fn number(&mut self, key: &'static str, value: i64) {
        self.0.set_attribute(KeyValue::new(key, value));
    }

    fn failed(&mut self, why: &str) {
        self.0.set_status(Status::error(why.to_owned()));
    }
}
