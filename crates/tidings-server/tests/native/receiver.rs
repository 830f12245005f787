//! An OTLP receiver in the test's own process: real gRPC, over a real socket.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::SOON;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

/// One span as it was received.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// `service.instance.id`.
    pub(crate) instance: String,
    pub(crate) name: String,
    pub(crate) trace: String,
    pub(crate) span: String,
    pub(crate) parent: String,
    pub(crate) state: String,
    /// Nanoseconds since 1970.
    pub(crate) began: u64,
    pub(crate) ended: u64,
    pub(crate) attributes: BTreeMap<String, String>,
    /// Whether it says that it failed.
    pub(crate) failed: bool,
}

/// Takes spans and keeps them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Receiver(Arc<Mutex<Vec<Received>>>);

impl Receiver {
    /// Starts one on a free port.
    pub(crate) async fn start() -> (Self, SocketAddr) {
        let receiver = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let service = TraceServiceServer::new(receiver.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(service.clone());
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        (receiver, address)
    }

    pub(crate) fn spans(&self) -> Vec<Received> {
        self.0.lock().expect("no panic").clone()
    }

    /// Waits until the spans are as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        let waiting = async {
            loop {
                let spans = self.spans();
                if wanted(&spans) {
                    return spans;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match tokio::time::timeout(SOON, waiting).await {
            Ok(spans) => spans,
            Err(_) => panic!("not as wanted: {:#?}", self.spans()),
        }
    }
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of_resource in request.into_inner().resource_spans {
            let resource = of_resource.resource.unwrap_or_default();
            let instance = attributes(&resource.attributes)
                .remove("service.instance.id")
                .unwrap_or_default();
            let spans = of_resource
                .scope_spans
                .into_iter()
                .flat_map(|one| one.spans);
            let received = spans.map(|span| Received {
                instance: instance.clone(),
                name: span.name,
                trace: hex(&span.trace_id),
                span: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                state: span.trace_state,
                began: span.start_time_unix_nano,
                ended: span.end_time_unix_nano,
                attributes: attributes(&span.attributes),
                failed: span.status.is_some_and(|status| status.code == 2),
            });
            self.0.lock().expect("no panic").extend(received);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        _ => None,
    };
    pairs
        .iter()
        .filter_map(|pair| Some((pair.key.clone(), text(pair)?)))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
