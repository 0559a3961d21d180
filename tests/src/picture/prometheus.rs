//! Debian's Prometheus, in the namespace of a host.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Child, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use testkit::wait;

use super::Series;
use crate::{
    chart::{file, tool},
    process::{Host, PATIENCE},
};

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);
/// The window of rates; a panel of Grafana's takes four times what is between two scrapes, at least.
const RATE: &str = "10s";
/// Between two points.
const STEP: u64 = 2;

const CONFIGURATION: &str = "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
scrape_configs:
- {job_name: balancing, static_configs: [{targets: [\"localhost:5811\"]}]}
- {job_name: balancing-controller, static_configs: [{targets: [\"localhost:5821\"]}]}
";

/// A server; killed when dropped.
pub(super) struct Prometheus<'a> {
    child: Child,
    host: &'a Host,
    _directory: TempDir,
}

impl<'a> Prometheus<'a> {
    /// Starts it, and waits until it answers.
    pub(super) fn start(host: &'a Host) -> Result<Self> {
        let directory = tempfile::tempdir().context("make a directory")?;
        let at = |name: &str| directory.path().join(name).display().to_string();
        let rules = file("charts/balancing/rules/alerts.yaml").canonicalize().context("the alerts")?;
        let configuration = format!("{CONFIGURATION}rule_files: [{}]\n", rules.display());
        fs::write(at("prometheus.yml"), configuration).context("write prometheus.yml")?;
        let mut command = std::process::Command::new(tool("prometheus"));
        command.arg(format!("--config.file={}", at("prometheus.yml")));
        command.arg(format!("--storage.tsdb.path={}", at("data")));
        command.arg(format!("--web.listen-address={ADDRESS}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        host.namespace().contain(&mut command)?;
        let prometheus =
            Self { child: command.spawn().context("start prometheus")?, host, _directory: directory };
        wait::until(PATIENCE, "Prometheus to answer", || prometheus.get("/-/ready").is_ok());
        Ok(prometheus)
    }

    /// The body of what is at `path`. By HTTP 1.0: it comes in one piece.
    fn get(&self, path: &str) -> Result<String> {
        let text = self.host.namespace().run(|| -> Result<String> {
            let mut stream = TcpStream::connect(ADDRESS)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })?;
        let (head, body) = text.split_once("\r\n\r\n").context("no HTTP")?;
        ensure!(head.starts_with("HTTP/1.0 200"), "{path}: {head}\n{body}");
        Ok(body.to_owned())
    }

    /// What a query of the dashboard gives for the last `time`.
    pub(super) fn range(&self, query: &str, legend: &str, time: Duration) -> Result<Vec<Series>> {
        let query = query.replace("$__rate_interval", RATE).replace("$instance", ".*");
        let end = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let start = end - time.as_secs();
        let path =
            format!("/api/v1/query_range?query={}&start={start}&end={end}&step={STEP}", escaped(&query));
        let answer: Value = serde_json::from_str(&self.get(&path).with_context(|| query.clone())?)?;
        let result = answer["data"]["result"].as_array().context("no result")?;
        let series = result.iter().map(|series| {
            let labels = &series["metric"];
            let points = series["values"].as_array().into_iter().flatten().filter_map(|point| {
                let value: f64 = point[1].as_str()?.parse().ok()?;
                Some((point[0].as_f64()? - start as f64, value)).filter(|_| value.is_finite())
            });
            Series { name: named(legend, labels), points: points.collect() }
        });
        Ok(series.filter(|series| !series.points.is_empty()).collect())
    }
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A legend with the values of labels in it.
fn named(legend: &str, labels: &Value) -> String {
    let mut parts = legend.split("{{");
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (label, rest) = part.split_once("}}").unwrap_or((part, ""));
        name.push_str(labels[label].as_str().unwrap_or_default());
        name.push_str(rest);
    }
    name
}

/// As a part of a URL.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn legends_and_queries() {
        assert_eq!(named("{{a}}/{{b}}: x", &json!({"a": "n", "b": "w"})), "n/w: x");
        assert_eq!(named("p99", &json!({})), "p99");
        assert_eq!(escaped("a{b=\"c\"}"), "a%7Bb%3D%22c%22%7D");
    }
}
