//! Telemetry: log lines, and spans for an OTLP receiver.
//!
//! The engine shows an event's way through its [`Observer`] port; here it becomes OpenTelemetry
//! spans. They wait in a bounded queue and leave in batches from a task of their own: a receiver
//! that is away, slow or broken costs spans, which are counted, and never a request.

mod export;
mod observer;

use std::io::IsTerminal as _;
use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use prometheus::Registry;
use tidings_adapter::trace::Observer;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{self, LogFormat};
use crate::limits::SPANS_GOODBYE;
use export::{Counts, Export};
use observer::Otlp;

/// Installs the log lines of a process. Inside a span with a trace id each line carries it.
pub fn log_lines(config: &config::Telemetry) {
    let filter = tracing_subscriber::EnvFilter::new(&config.level.0);
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // Only the first one of a process can be installed; a second App in one process shares it.
    let _ = match config.format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true);
            lines.with_span_list(false).try_init()
        }
    };
}

/// The spans of one instance, on their way to an OTLP receiver.
#[derive(Debug)]
pub struct Spans {
    observer: Arc<Otlp>,
    stop: CancellationToken,
    export: JoinHandle<()>,
}

impl Spans {
    /// Starts the export, if one is configured. A receiver that cannot be used is logged: an
    /// instance works without being watched.
    ///
    /// # Errors
    /// When the registry has `tidings_spans_total` already.
    pub fn start(
        config: &config::Telemetry,
        registry: &Registry,
    ) -> Result<Option<Self>, prometheus::Error> {
        let counts = Counts::register(registry)?;
        let Some(endpoint) = &config.otlp_endpoint else {
            return Ok(None);
        };
        let resource = resource(config);
        let (queue, export) = match Export::new(&endpoint.0, &resource, counts) {
            Ok(made) => made,
            Err(error) => {
                tracing::error!(%error, "spans cannot be exported; there are none");
                return Ok(None);
            }
        };
        let stop = CancellationToken::new();
        Ok(Some(Self {
            observer: Arc::new(Otlp::new(queue, config.otlp_sample.0, resource)),
            export: tokio::spawn(export.run(stop.clone())),
            stop,
        }))
    }

    /// Who observes a hub.
    #[must_use]
    pub fn observer(&self) -> Arc<dyn Observer> {
        self.observer.clone()
    }

    /// Exports what waits, as far as a receiver takes it in time.
    pub async fn flush(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(SPANS_GOODBYE, &mut self.export)
            .await
            .is_err()
        {
            tracing::warn!("some spans are not exported: their receiver does not answer");
            self.export.abort();
        }
    }
}

fn resource(config: &config::Telemetry) -> Resource {
    let id = config
        .instance_id
        .clone()
        .unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
    let own = [
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", id),
    ];
    let more = config.resource.iter();
    let more = more.map(|one| KeyValue::new(one.0.clone(), one.1.clone()));
    Resource::builder_empty()
        .with_attributes(own.into_iter().chain(more))
        .with_service_name(config.service_name.clone())
        .build()
}
