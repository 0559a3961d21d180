//! A line of the event log as a log record of OpenTelemetry. Names are those of its semantic conventions (1.37), where
//! there are such; `balancing.` is before all others.

use std::net::IpAddr;

use jiff::Timestamp;
use observe::{
    Destroyed,
    event::{Address, Decision, Line, Service},
};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, SeverityNumber},
};

/// The record of a line that is sent now.
pub(super) fn record(line: &Line, now: Timestamp) -> LogRecord {
    let mut attributes = Attributes::default();
    let (name, is_warning, body) = match line {
        Line::Decision(decision) => {
            attributes.of_decision(decision);
            ("balancing.decision", is_failure(decision), summary(decision))
        }
        Line::Destroyed(socket) => {
            attributes.of_destroyed(socket);
            let (original, backend) = (socket.original.socket_addr(), socket.backend.socket_addr());
            let body =
                format!("destroyed ({}): {} {original} -> {backend}", socket.destroyed, socket.protocol);
            ("balancing.destroyed", false, body)
        }
        Line::Suppressed(told) => {
            attributes.add("balancing.reason", text(&told.reason));
            attributes.add("balancing.suppressed", number(told.suppressed));
            let body = format!("{} more of {} in {} s", told.suppressed, told.reason, told.seconds);
            ("balancing.suppressed", true, body)
        }
        Line::Pause(pause) => {
            attributes.add("balancing.paused", Some(Value::BoolValue(pause.paused)));
            let body = if pause.paused { "paused: connections pass untranslated" } else { "resumed" };
            ("balancing.pause", pause.paused, body.into())
        }
        // What one reader is told; never sent.
        Line::Refused(refused) => ("balancing.refused", true, refused.refused.clone()),
        Line::Lost(lost) => {
            attributes.add("balancing.lost", number(lost.lost));
            attributes.add("balancing.at", text(&lost.at));
            ("balancing.lost", true, format!("{} events are missing here ({})", lost.lost, lost.at))
        }
    };
    let severity = if is_warning { SeverityNumber::Warn } else { SeverityNumber::Info };
    LogRecord {
        time_unix_nano: nanoseconds(line.time()),
        observed_time_unix_nano: nanoseconds(now),
        severity_number: severity.into(),
        severity_text: if is_warning { "WARN" } else { "INFO" }.into(),
        body: Some(AnyValue { value: Some(Value::StringValue(body)) }),
        attributes: attributes.0,
        event_name: name.into(),
        ..LogRecord::default()
    }
}

fn nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or_default()
}

fn is_failure(decision: &Decision) -> bool {
    matches!(decision.verdict.as_str(), "refused" | "unreachable" | "denied")
}

fn summary(decision: &Decision) -> String {
    let Decision { verdict, reason, protocol, .. } = decision;
    let original = decision.original.socket_addr();
    let service = decision.service.as_ref().map(|it| format!(" of {}/{}", it.namespace, it.name));
    let backend =
        decision.backend.as_ref().map(|it| format!(" -> {}", std::net::SocketAddr::new(it.ip, it.port)));
    let [service, backend] = [service, backend].map(Option::unwrap_or_default);
    format!("{verdict} ({reason}): {protocol} {original}{service}{backend}")
}

/// What is known.
#[derive(Default)]
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn add(&mut self, key: &str, value: Option<Value>) {
        if value.is_some() {
            self.0.push(KeyValue { key: key.into(), value: Some(AnyValue { value }), ..KeyValue::default() });
        }
    }

    fn of_decision(&mut self, decision: &Decision) {
        let client = &decision.client;
        self.add("k8s.namespace.name", client.who.namespace.as_deref().and_then(text));
        self.add("k8s.pod.name", client.who.pod.as_deref().and_then(text));
        self.add("k8s.container.name", client.who.container.as_deref().and_then(text));
        self.add("container.id", client.who.container_id.as_deref().and_then(text));
        self.add("process.pid", client.pid.and_then(number));
        self.add("thread.id", client.tid.and_then(number));
        self.add("thread.name", client.comm.as_deref().and_then(text));
        self.add("process.user.id", client.uid.and_then(number));
        self.add("process.linux.cgroup", client.cgroup.as_deref().and_then(text));
        self.add("balancing.host", client.who.host.as_deref().and_then(text));
        self.of_connection(&decision.protocol, &decision.original);
        self.add("error.type", is_failure(decision).then(|| text(&decision.reason)).flatten());
        self.add("balancing.hook", text(&decision.hook));
        self.add("balancing.verdict", text(&decision.verdict));
        self.add("balancing.reason", text(&decision.reason));
        self.add("balancing.mode", decision.mode.as_deref().and_then(text));
        if let Some(backend) = &decision.backend {
            self.of_backend(backend.ip, backend.port);
            self.add("balancing.backend.namespace", backend.namespace.as_deref().and_then(text));
            self.add("balancing.backend.pod", backend.pod.as_deref().and_then(text));
            self.add("balancing.backend.node", backend.node.as_deref().and_then(text));
        }
        self.of_service(decision.service.as_ref());
        if let Some(policy) = &decision.policy {
            self.add("balancing.policy.kind", text(&policy.kind));
            self.add("balancing.policy.name", text(&policy.name));
        }
        let flags: Vec<AnyValue> = decision.flags.iter().map(|flag| AnyValue { value: text(flag) }).collect();
        let flags = (!flags.is_empty()).then_some(Value::ArrayValue(ArrayValue { values: flags }));
        self.add("balancing.flags", flags);
    }

    fn of_destroyed(&mut self, socket: &Destroyed) {
        self.of_connection(&socket.protocol, &socket.original);
        self.add("client.address", text(&socket.local.ip.to_string()));
        self.add("client.port", number(socket.local.port));
        self.add("balancing.reason", text(&socket.destroyed));
        self.of_backend(socket.backend.ip, socket.backend.port);
        self.of_service(socket.service.as_ref());
    }

    fn of_connection(&mut self, protocol: &str, original: &Address) {
        self.add("network.transport", text(&protocol.to_lowercase()));
        self.add("network.type", text(if original.ip.is_ipv4() { "ipv4" } else { "ipv6" }));
        self.add("server.address", text(&original.ip.to_string()));
        self.add("server.port", number(original.port));
    }

    fn of_backend(&mut self, ip: IpAddr, port: u16) {
        self.add("balancing.backend.address", text(&ip.to_string()));
        self.add("balancing.backend.port", number(port));
    }

    fn of_service(&mut self, service: Option<&Service>) {
        if let Some(service) = service {
            self.add("balancing.service.namespace", text(&service.namespace));
            self.add("balancing.service.name", text(&service.name));
            self.add("balancing.service.port", text(&service.port));
        }
    }
}

pub(super) fn text(text: &str) -> Option<Value> {
    Some(Value::StringValue(text.into()))
}

fn number(number: impl TryInto<i64>) -> Option<Value> {
    Some(Value::IntValue(number.try_into().unwrap_or(i64::MAX)))
}
