//! From what is asked to what is answered. Nothing here waits or looks anywhere else.

use std::time::Duration;

use jiff::Timestamp;
use model::{Family, ObjectName};
use observe::metrics;
use serde::Serialize;
use serde_json::json;

use super::condition::Condition;

/// Who is asked: one port, or one family of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    /// The agent: `/healthz`, `/livez`, `/readyz`.
    Agent,
    /// Its metrics: `/metrics`.
    Metrics,
    /// kube-proxy's port 10256: `/healthz`, `/livez`.
    ProxyHealth,
    /// kube-proxy's port 10249: `/proxyMode`, `/healthz`, `/metrics`.
    ProxyMetrics,
    /// R24: a service, in one family, whatever the path.
    Service(ObjectName, Family),
}

/// What the clocks say.
pub(super) struct Clock {
    /// How long ago the task that owns the tables turned.
    pub(super) silent: Duration,
    pub(super) now: Timestamp,
}

/// What is answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    /// R24: how many endpoints, for load balancers that weigh nodes.
    pub(super) weight: Option<usize>,
    pub(super) body: String,
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const OK: u16 = 200;
const NOT_FOUND: u16 = 404;
const UNAVAILABLE: u16 = 503;

/// What kube-proxy says that it never did (the zero of Go's time).
const NEVER: &str = "0001-01-01T00:00:00Z";

/// What `:10249/proxyMode` says. kube-proxy has iptables, ipvs and nftables; whoever asks wants to know whether it is one
/// whose rules it must beware of.
const MODE: &str = "ebpf";

fn status_of(is_good: bool) -> u16 {
    if is_good { OK } else { UNAVAILABLE }
}

fn json(status: u16, body: &impl Serialize) -> Answer {
    let body = serde_json::to_string(body).unwrap_or_default();
    Answer { status, content_type: JSON, weight: None, body }
}

fn text(status: u16, body: impl Into<String>) -> Answer {
    Answer { status, content_type: TEXT, weight: None, body: body.into() }
}

fn not_found(paths: &str) -> Answer {
    text(NOT_FOUND, format!("404 page not found; there is {paths}\n"))
}

/// Answers a request for `path`; metrics are asked for only if they are wanted.
pub(super) fn answer(
    face: &Face,
    path: &str,
    it: &Condition,
    metrics: impl FnOnce() -> String,
    clock: &Clock,
) -> Answer {
    let silent = clock.silent;
    match (face, path) {
        (Face::Agent, "/livez") => of_agent(it, it.dead(silent)),
        (Face::Agent, "/healthz") => of_agent(it, it.unserved(silent)),
        (Face::Agent, "/readyz") => of_agent(it, it.unready(silent)),
        (Face::Agent, _) => not_found("/healthz, /livez, /readyz"),
        (Face::ProxyHealth, "/healthz") => of_proxy(it, clock, Some(!it.leaving)),
        (Face::ProxyHealth, "/livez") => of_proxy(it, clock, None),
        (Face::ProxyHealth, _) => not_found("/healthz, /livez"),
        (Face::ProxyMetrics, "/proxyMode") => text(OK, MODE),
        (Face::ProxyMetrics, "/healthz") => text(OK, "ok"),
        (Face::ProxyMetrics | Face::Metrics, "/metrics") => {
            Answer { status: OK, content_type: metrics::CONTENT_TYPE, weight: None, body: metrics() }
        }
        (Face::ProxyMetrics, _) => not_found("/proxyMode, /healthz, /metrics"),
        (Face::Metrics, _) => not_found("/metrics"),
        (Face::Service(name, family), _) => of_service(name, *family, it, it.unserved(silent).is_empty()),
    }
}

fn of_agent(it: &Condition, problems: Vec<String>) -> Answer {
    let body = json!({"healthy": problems.is_empty(), "problems": problems, "sources": it.sources});
    json(status_of(problems.is_empty()), &body)
}

/// As kubernetes 1.36 pkg/proxy/healthcheck/proxy_health.go. `healthy` there is the proxy's health alone, and one that is
/// healthy has always been updated just now.
fn of_proxy(it: &Condition, clock: &Clock, eligible: Option<bool>) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Health<'a> {
        last_updated: &'a str,
        current_time: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        node_eligible: Option<bool>,
        healthy: bool,
        status: Families<'a>,
    }
    #[derive(Serialize)]
    struct Families<'a> {
        #[serde(rename = "IPv4")]
        v4: OfFamily<'a>,
        #[serde(rename = "IPv6")]
        v6: OfFamily<'a>,
    }
    #[derive(Clone, Copy, Serialize)]
    #[serde(rename_all = "camelCase")]
    struct OfFamily<'a> {
        last_updated: &'a str,
        healthy: bool,
    }
    let healthy = it.unserved(clock.silent).is_empty();
    let is_good = healthy && eligible != Some(false);
    let now = clock.now.to_string();
    let updated = it.updated.map_or(NEVER.into(), |time| time.to_string());
    // Both families are written together.
    let each = OfFamily { last_updated: &updated, healthy };
    let body = Health {
        last_updated: if is_good { &now } else { &updated },
        current_time: &now,
        node_eligible: eligible,
        healthy,
        status: Families { v4: each, v6: each },
    };
    json(status_of(is_good), &body)
}

/// As kubernetes 1.36 pkg/proxy/healthcheck/service_health.go.
fn of_service(name: &ObjectName, family: Family, it: &Condition, healthy: bool) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Check<'a> {
        service: Named<'a>,
        local_endpoints: usize,
        service_proxy_healthy: bool,
    }
    #[derive(Serialize)]
    struct Named<'a> {
        namespace: &'a str,
        name: &'a str,
    }
    let count = it.checks.get(name).and_then(|check| check.local.get(&family)).copied().unwrap_or_default();
    let body = Check {
        service: Named { namespace: &name.namespace, name: &name.name },
        local_endpoints: count,
        service_proxy_healthy: healthy,
    };
    Answer { weight: Some(count), ..json(status_of(count > 0 && healthy), &body) }
}

#[cfg(test)]
mod tests;
