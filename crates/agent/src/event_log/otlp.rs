//! The event log as OpenTelemetry logs, sent by OTLP over HTTP, as protobuf: in requests of up to a few hundred lines, one
//! after the other. What a collector can't take now is sent again; what it refuses is counted.
//!
//! The SDK's own processor counts not exactly what it drops, so that only the messages are used here.

mod record;

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use jiff::Timestamp;
use observe::Line;
use opentelemetry_proto::tonic::{
    collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse},
    common::v1::{AnyValue, InstrumentationScope, KeyValue},
    logs::v1::{ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use prost::Message;
use tokio::runtime::Runtime;

use super::{
    batch::Batch,
    sink::{Failure, Output, RETRY, Standing},
};

/// How long a request may take, as exporters of OpenTelemetry have it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long lines are gathered.
const GATHER: Duration = Duration::from_millis(500);
/// Longest pause after a failure.
const PAUSE: Duration = Duration::from_secs(10);
/// Longest answer that is read.
const ANSWER: usize = 64 * 1024;

/// A collector.
pub(crate) struct Otlp {
    uri: Uri,
    resource: Resource,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    runtime: Runtime,
    gather: Duration,
    pause: Duration,
}

/// What a collector says.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// It has taken all but so many.
    Taken { rejected: u64, why: String },
    /// It would take them later.
    Later(String),
    /// It will never take these.
    Refused(String),
}

impl Otlp {
    /// Nothing is connected yet. A URL without a path means `/v1/logs`.
    ///
    /// # Errors
    /// There can be no more files, or no certificates are there.
    pub(crate) fn new(url: &str, node: &str) -> io::Result<Self> {
        let mut uri: Uri = url.parse().map_err(io::Error::other)?;
        if uri.path() == "/" {
            let mut parts = uri.into_parts();
            parts.path_and_query = Some(hyper::http::uri::PathAndQuery::from_static("/v1/logs"));
            uri = Uri::from_parts(parts).map_err(io::Error::other)?;
        }
        let builder = HttpsConnectorBuilder::new();
        let provider = rustls::crypto::ring::default_provider();
        let builder = if uri.scheme_str() == Some("https") {
            builder.with_provider_and_native_roots(provider)?
        } else {
            // There may be no certificates on the machine.
            let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider));
            let config = config.with_safe_default_protocol_versions().map_err(io::Error::other)?;
            let none = rustls::RootCertStore::empty();
            builder.with_tls_config(config.with_root_certificates(none).with_no_client_auth())
        };
        let connector = builder.https_or_http().enable_http1().build();
        let attribute = |key: &str, value: &str| KeyValue {
            key: key.into(),
            value: Some(AnyValue { value: record::text(value) }),
            ..KeyValue::default()
        };
        let resource = Resource {
            attributes: vec![
                attribute("service.name", "balancing-agent"),
                attribute("service.version", env!("CARGO_PKG_VERSION")),
                attribute("k8s.node.name", node),
            ],
            ..Resource::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { uri, resource, client, runtime, gather: GATHER, pause: RETRY })
    }

    fn request(&self, lines: &[u8], now: Timestamp) -> Vec<u8> {
        let lines = lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        let scope_logs = ScopeLogs {
            scope: Some(InstrumentationScope { name: "balancing".into(), ..InstrumentationScope::default() }),
            log_records: lines.map(|line: Line| record::record(&line, now)).collect(),
            ..ScopeLogs::default()
        };
        let resource_logs = ResourceLogs {
            resource: Some(self.resource.clone()),
            scope_logs: vec![scope_logs],
            ..ResourceLogs::default()
        };
        ExportLogsServiceRequest { resource_logs: vec![resource_logs] }.encode_to_vec()
    }

    fn send(&self, body: Vec<u8>) -> Answer {
        let request = Request::post(&self.uri)
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header(header::USER_AGENT, concat!("balancing/", env!("CARGO_PKG_VERSION")))
            .body(Full::from(body));
        let request = match request {
            Ok(request) => request,
            Err(error) => return Answer::Later(error.to_string()),
        };
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| chain(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER).collect().await;
            Ok((status, body.map(|body| body.to_bytes()).unwrap_or_default()))
        };
        let outcome = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, exchange).await });
        match outcome {
            Ok(Ok((status, body))) => judge(status, &body),
            Ok(Err(error)) => Answer::Later(error),
            Err(_) => Answer::Later(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }
}

/// An error with its causes: the client's own says little.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// What an answer means, as the specification of OTLP 1.x has it (OTLP/HTTP Response).
fn judge(status: StatusCode, body: &[u8]) -> Answer {
    if status.is_success() {
        let answer = ExportLogsServiceResponse::decode(body).unwrap_or_default();
        let partial = answer.partial_success.unwrap_or_default();
        let rejected = u64::try_from(partial.rejected_log_records).unwrap_or_default();
        return Answer::Taken { rejected, why: partial.error_message };
    }
    match status.as_u16() {
        429 | 502..=504 => Answer::Later(format!("answered {status}")),
        _ => Answer::Refused(format!("answered {status}")),
    }
}

impl Output for Otlp {
    fn write(&mut self, batch: &mut Batch, standing: &Standing) -> Result<(), Failure> {
        let body = self.request(batch.rest(), Timestamp::now());
        let answer = self.send(body);
        let bytes = batch.rest().len();
        match answer {
            Answer::Taken { rejected, why } => {
                let lines = batch.wrote(bytes);
                let rejected = rejected.min(lines);
                standing.add(lines - rejected, 0);
                standing.refused(rejected, &why);
            }
            Answer::Refused(why) => standing.refused(batch.wrote(bytes), &why),
            Answer::Later(why) => {
                let pause = self.pause;
                self.pause = (pause * 2).min(PAUSE);
                return Err(Failure::remote(&self.uri.to_string(), why, pause));
            }
        }
        self.pause = RETRY;
        Ok(())
    }

    fn gather(&self) -> Duration {
        self.gather
    }
}

#[cfg(test)]
mod tests;
