//! The way of spans out of the process: a bounded queue, and one task that exports from it.
//!
//! The SDK's own batch processor keeps a thread, does not count what it drops, and cannot be flushed
//! from a task without waiting for its time-out; so this is ours.

use std::time::Duration;

use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{
    ExporterBuildError, SpanExporter, WithExportConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter as _, SpanProcessor};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Spans that wait. About 1 KiB each: 8 MiB when the receiver is away, a second of 8,000 spans when
/// it is slow.
const QUEUE: usize = 8192;

/// Spans of one export, as the OpenTelemetry specification's batch processor has it.
const BATCH: usize = 512;

/// How long a span waits for others to leave with.
const LINGER: Duration = Duration::from_millis(500);

/// For one export. A receiver that takes longer is away; what comes meanwhile waits in the queue.
const PATIENCE: Duration = Duration::from_secs(5);

/// Counts spans by what became of them.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    exported: IntCounter,
    /// The queue was full.
    dropped: IntCounter,
    /// The receiver did not take them.
    failed: IntCounter,
}

impl Counts {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = Opts::new(
            "tidings_spans_total",
            "Spans of sampled traces, by what became of them",
        );
        let counter = IntCounterVec::new(opts, &["outcome"])?;
        registry.register(Box::new(counter.clone()))?;
        Ok(Self {
            exported: counter.with_label_values(&["exported"]),
            dropped: counter.with_label_values(&["dropped"]),
            failed: counter.with_label_values(&["failed"]),
        })
    }
}

/// The queue's near end, as the SDK hands spans over.
#[derive(Debug)]
pub(super) struct Queue {
    spans: mpsc::Sender<SpanData>,
    counts: Counts,
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            self.counts.dropped.inc();
        }
    }

    /// Nothing waits here: the task exports by itself, and is flushed when the process ends.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The queue's far end.
#[derive(Debug)]
pub(super) struct Export {
    exporter: SpanExporter,
    spans: mpsc::Receiver<SpanData>,
    counts: Counts,
}

impl Export {
    /// A queue to a receiver over gRPC. Nothing is connected yet.
    pub(super) fn new(
        endpoint: &str,
        resource: &Resource,
        counts: Counts,
    ) -> Result<(Queue, Self), ExporterBuildError> {
        let mut builder = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(PATIENCE);
        if endpoint.starts_with("https:") {
            // The system's authorities; the library itself would trust nobody.
            builder = builder.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
        }
        let mut exporter = builder.build()?;
        exporter.set_resource(resource);
        let (sender, spans) = mpsc::channel(QUEUE);
        let queue = Queue {
            spans: sender,
            counts: counts.clone(),
        };
        let export = Self {
            exporter,
            spans,
            counts,
        };
        Ok((queue, export))
    }

    /// Exports until told to stop, and then what is left.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut away = false;
        loop {
            self.gather(&mut batch, &stop).await;
            if batch.is_empty() {
                return;
            }
            let count = batch.len() as u64;
            // The exporter keeps to its own time-out but for what it waits between its tries.
            let export = self.exporter.export(std::mem::take(&mut batch));
            let failure = match tokio::time::timeout(PATIENCE, export).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("no answer in {PATIENCE:?}")),
            };
            match failure {
                None => {
                    self.counts.exported.inc_by(count);
                    if std::mem::take(&mut away) {
                        tracing::info!("spans are taken again");
                    }
                }
                Some(error) => {
                    self.counts.failed.inc_by(count);
                    if !std::mem::replace(&mut away, true) {
                        tracing::warn!(%error, "spans are not taken by their receiver; counted, not kept");
                    }
                }
            }
        }
    }

    /// The next batch: full, or what has come within a while of its first span. Empty only at the
    /// end.
    async fn gather(&mut self, batch: &mut Vec<SpanData>, stop: &CancellationToken) {
        let gathering = async {
            self.spans.recv_many(batch, BATCH).await;
            let more = async {
                while batch.len() < BATCH {
                    let room = BATCH - batch.len();
                    if self.spans.recv_many(batch, room).await == 0 {
                        return;
                    }
                }
            };
            let _ = tokio::time::timeout(LINGER, more).await;
        };
        if stop.run_until_cancelled(gathering).await.is_none() {
            // What comes from here on is dropped; what is there already is not.
            self.spans.close();
            while batch.len() < BATCH
                && let Ok(span) = self.spans.try_recv()
            {
                batch.push(span);
            }
        }
    }
}
