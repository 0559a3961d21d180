//! A collector that says what it is told to say.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{Arc, mpsc},
    thread,
};

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsPartialSuccess, common::v1::any_value::Value, logs::v1::LogRecord,
};
use tokio::sync::broadcast;

use super::*;
use crate::event_log::{follower::Follower, sink};

const DECISION: &str = r#"{"schema":1,"time":"2026-11-22T10:00:00.5Z","node":"n1","hook":"connect","verdict":"refused","reason":"no-endpoints","protocol":"TCP","client":{"namespace":"shop","pod":"web-1","container":"web","containerId":"0123","host":null,"pid":42,"tid":43,"comm":"curl","uid":1000,"cgroup":"/kubepods/pod1","cgroupId":7,"netnsCookie":3},"original":{"ip":"10.96.0.1","port":80},"backend":null,"service":{"namespace":"data","name":"cart","port":"http"},"policy":null,"mode":"ClusterIP","flags":["fallback","limit"]}"#;
const SUPPRESSED: &str = r#"{"schema":1,"time":"2026-11-22T10:00:00Z","node":"n1","suppressed":7,"reason":"no-endpoints","seconds":1.0}"#;

/// Answers requests in turn; gives path, content type and body of each.
fn collector(answers: Vec<(u16, Vec<u8>)>) -> (String, mpsc::Receiver<(String, ExportLogsServiceRequest)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (seen, requests) = mpsc::channel();
    thread::spawn(move || {
        for (status, answer) in answers {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                stream.read_line(&mut head).unwrap();
            }
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let mut body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body).unwrap();
            let head_of_answer = format!(
                "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                answer.len()
            );
            stream.get_mut().write_all(&[head_of_answer.as_bytes(), &answer].concat()).unwrap();
            seen.send((head, ExportLogsServiceRequest::decode(&*body).unwrap())).unwrap();
        }
    });
    (url, requests)
}

fn attributes(all: &[KeyValue]) -> BTreeMap<String, String> {
    let shown = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::ArrayValue(array) => format!("{} values", array.values.len()),
        other => format!("{other:?}"),
    };
    let of = |it: &KeyValue| (it.key.clone(), shown(it.value.as_ref().unwrap().value.as_ref().unwrap()));
    all.iter().map(of).collect()
}

fn records(request: &ExportLogsServiceRequest) -> Vec<LogRecord> {
    request.resource_logs[0].scope_logs[0].log_records.clone()
}

#[test]
fn a_collector_gets_lines_as_records_and_what_it_refuses_is_counted() {
    let partial = ExportLogsPartialSuccess { rejected_log_records: 1, error_message: "no room".into() };
    let partial = ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let answers =
        vec![(503, Vec::new()), (200, Vec::new()), (200, partial), (400, Vec::new()), (200, Vec::new())];
    let (url, requests) = collector(answers);
    let (lines, coming) = broadcast::channel(8);
    let standing = Standing::new(&url);
    let follower = Follower::new(coming, "n1", &url);
    let otlp = Otlp { gather: Duration::from_millis(200), ..Otlp::new(&url, "n1").unwrap() };
    let ended = sink::start(follower, otlp, standing.clone()).unwrap();
    let send = |line: &str| drop(lines.send(Arc::from(line)));

    send(DECISION);
    send(SUPPRESSED);
    let (head, first) = requests.recv().unwrap();
    assert!(head.starts_with("POST /v1/logs HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("content-type: application/x-protobuf\r\n"), "{head}");
    // It was asked to come again.
    let (_, second) = requests.recv().unwrap();
    let [first, records] = [&first, &second].map(records);
    let bodies = |all: &[LogRecord]| all.iter().map(|it| it.body.clone()).collect::<Vec<_>>();
    assert_eq!((bodies(&first), records.len()), (bodies(&records), 2));

    let resource = attributes(&second.resource_logs[0].resource.as_ref().unwrap().attributes);
    assert_eq!(
        (resource["service.name"].as_str(), resource["k8s.node.name"].as_str()),
        ("balancing-agent", "n1")
    );
    let decision = &records[0];
    assert_eq!((decision.severity_number, decision.severity_text.as_str()), (13, "WARN"));
    assert_eq!(
        (decision.time_unix_nano, decision.event_name.as_str()),
        (1_795_341_600_500_000_000, "balancing.decision")
    );
    let body = decision.body.as_ref().unwrap().value.clone().unwrap();
    assert_eq!(body, Value::StringValue("refused (no-endpoints): TCP 10.96.0.1:80 of data/cart".into()));
    let expected = [
        ("balancing.flags", "2 values"),
        ("balancing.hook", "connect"),
        ("balancing.mode", "ClusterIP"),
        ("balancing.reason", "no-endpoints"),
        ("balancing.service.name", "cart"),
        ("balancing.service.namespace", "data"),
        ("balancing.service.port", "http"),
        ("balancing.verdict", "refused"),
        ("container.id", "0123"),
        ("error.type", "no-endpoints"),
        ("k8s.container.name", "web"),
        ("k8s.namespace.name", "shop"),
        ("k8s.pod.name", "web-1"),
        ("network.transport", "tcp"),
        ("network.type", "ipv4"),
        ("process.linux.cgroup", "/kubepods/pod1"),
        ("process.pid", "42"),
        ("process.user.id", "1000"),
        ("server.address", "10.96.0.1"),
        ("server.port", "80"),
        ("thread.id", "43"),
        ("thread.name", "curl"),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(attributes(&decision.attributes), expected.into());
    assert_eq!(attributes(&records[1].attributes)["balancing.suppressed"], "7");

    // Of two lines one is rejected; one is refused; the last is taken.
    send(DECISION);
    send(DECISION);
    requests.recv().unwrap();
    send(DECISION);
    requests.recv().unwrap();
    send(&DECISION.replace("\"refused\"", "\"translated\""));
    let (_, last) = requests.recv().unwrap();
    let last = &self::records(&last)[0];
    assert_eq!((last.severity_text.as_str(), attributes(&last.attributes).get("error.type")), ("INFO", None));
    drop(lines);
    ended.recv().unwrap_err();
    let standing = standing.get();
    assert_eq!((standing.written, standing.lost, standing.problem), (4, 2, None));
}

#[test]
fn answers_mean_what_the_specification_says() {
    let later = |status| matches!(judge(StatusCode::from_u16(status).unwrap(), b""), Answer::Later(_));
    assert_eq!([429, 502, 503, 504].map(later), [true; 4]);
    assert_eq!([200, 202, 400, 401, 404, 413, 500, 501].map(later), [false; 8]);
    assert_eq!(judge(StatusCode::OK, b""), Answer::Taken { rejected: 0, why: String::new() });
    assert_eq!(judge(StatusCode::BAD_REQUEST, b""), Answer::Refused("answered 400 Bad Request".into()));
}

#[test]
fn a_path_of_ones_own_is_kept() {
    let path = |url: &str| Otlp::new(url, "n1").unwrap().uri.to_string();
    assert_eq!(path("http://c:4318"), "http://c:4318/v1/logs");
    assert_eq!(path("https://c/"), "https://c/v1/logs");
    assert_eq!(path("https://c/otlp/v1/logs?a=b"), "https://c/otlp/v1/logs?a=b");
}
