//! The double must not be what is slow when something is measured against it.
#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use apidouble::{Cluster, Server};
use serde_json::{Value, json};

const SLICES: usize = 10_000;
const ENDPOINTS: usize = 10;
const CHANGES: usize = 3_000;
const WATCHES: usize = 4;

fn slice(at: usize, change: usize) -> Value {
    let endpoint = |endpoint: usize| {
        json!({"addresses": [format!("10.{}.{}.{endpoint}", at / 256, at % 256)], "nodeName": format!("node-{:04}", at % 1000),
            "zone": "a", "conditions": {"ready": change.is_multiple_of(2), "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": "default", "name": format!("pod-{at}-{endpoint}")}})
    };
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("service-{at:05}-abcde"), "labels": {"kubernetes.io/service-name": format!("service-{at:05}")},
            "annotations": {"change": change.to_string(), "sent": ""}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": (0..ENDPOINTS).map(endpoint).collect::<Vec<_>>()})
}

fn request(server: &Server, query: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let path = format!("/apis/discovery.k8s.io/v1/endpointslices{query}");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    BufReader::new(stream)
}

#[test]
fn ten_thousand_slices_and_a_thousand_changes_a_second() {
    let cluster = Cluster::new();
    let server = Server::plain(&cluster).unwrap();
    let begun = Instant::now();
    cluster.put_all((0..SLICES).map(|at| slice(at, 0))).unwrap();
    println!("{SLICES} slices are stored: {:?}", begun.elapsed());

    let begun = Instant::now();
    let size = std::io::copy(&mut request(&server, ""), &mut std::io::sink()).unwrap();
    println!("a list of {size} bytes: {:?}", begun.elapsed());
    assert!(
        size > 10_000_000 && begun.elapsed() < Duration::from_secs(5),
        "{size} bytes in {:?}",
        begun.elapsed()
    );

    let watches: Vec<_> = (0..WATCHES)
        .map(|_| {
            let mut lines =
                request(&server, &format!("?watch=true&resourceVersion={}", cluster.revision())).lines();
            while lines.next().unwrap().unwrap() != "" {}
            thread::spawn(move || {
                let last = format!("\"change\":\"{CHANGES}\"");
                let mut events = 0;
                for line in lines {
                    let line = line.unwrap();
                    events += usize::from(line.contains("\"MODIFIED\""));
                    if line.contains(&last) {
                        break;
                    }
                }
                (events, Instant::now())
            })
        })
        .collect();
    let begun = Instant::now();
    let mut late = Duration::ZERO;
    for change in 1..=CHANGES {
        let due = begun + Duration::from_millis(change as u64);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        cluster.put(slice(change % SLICES, change)).unwrap();
        late = late.max(due.elapsed());
    }
    let written = Instant::now();
    println!("{CHANGES} changes: {:?}, at most {late:?} late", written - begun);
    for watch in watches {
        let (events, end) = watch.join().unwrap();
        println!("a watch has seen {events} events, the last {:?} after it was written", end - written);
        assert_eq!(events, CHANGES);
        assert!(end < written + Duration::from_secs(2), "{:?} behind", end - written);
    }
    // As many as were asked for, within what a busy machine takes.
    assert!(written - begun < Duration::from_millis(4 * CHANGES as u64), "{:?}", written - begun);
}
