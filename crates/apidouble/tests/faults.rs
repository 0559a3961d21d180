//! What the double does wrong on demand, as a client sees it.
#![allow(clippy::unwrap_used)]

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use apidouble::{Access, Cluster, Ending, Fault, Filter, Kind, Login, Server, User, Verb};
use serde_json::{Value, json};

/// A connection on which a request was made: what is read of the answer is the test's business.
struct Plain(TcpStream);

impl Plain {
    fn get(server: &Server, path: &str) -> Self {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut plain = Self(stream);
        write!(plain.0, "GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        plain
    }

    fn watch(server: &Server, path: &str) -> Self {
        let open = server.open_watches();
        let mut plain = Self::get(server, &format!("{path}?watch=true&allowWatchBookmarks=true"));
        eventually("the watch is open", || server.open_watches() > open);
        plain.until("\r\n\r\n");
        plain
    }

    /// What comes up to `mark`.
    fn until(&mut self, mark: &str) -> String {
        let mut read = Vec::new();
        let mut byte = [0];
        while !read.ends_with(mark.as_bytes()) {
            let length = self.0.read(&mut byte).unwrap();
            assert_eq!(length, 1, "ended before {mark:?}: {}", String::from_utf8_lossy(&read));
            read.push(byte[0]);
        }
        String::from_utf8(read).unwrap()
    }

    /// All that comes, and how it ends.
    fn rest(mut self) -> (String, Result<(), ErrorKind>) {
        let mut read = Vec::new();
        let end = self.0.read_to_end(&mut read).map(drop).map_err(|error| error.kind());
        (String::from_utf8_lossy(&read).into_owned(), end)
    }
}

/// Status line and body of an answer that ends with its connection.
fn answer(server: &Server, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let code = text.split(' ').nth(1).unwrap().parse().unwrap();
    (code, text)
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < end, "not in time: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
}

fn cluster(nodes: usize) -> (Cluster, Server) {
    let cluster = Cluster::new();
    cluster.put_all((0..nodes).map(|at| node(&format!("node-{at:04}")))).unwrap();
    let server = Server::plain(&cluster).unwrap();
    (cluster, server)
}

#[test]
fn answers_of_trouble() {
    let (_cluster, server) = cluster(1);
    let trouble = [
        (Fault::InternalError, 500),
        (Fault::Unavailable, 503),
        (Fault::TooManyRequests(7), 429),
        (Fault::Gone, 410),
    ];
    for (fault, code) in trouble {
        let id = server.faults().times(1, Filter::verb(Verb::List), fault);
        let (got, text) = answer(&server, "/api/v1/nodes");
        assert_eq!((got, server.faults().hits(id)), (code, 1));
        assert!(text.contains("\"kind\":\"Status\""), "{text}");
        assert_eq!(text.contains("retry-after: 7"), code == 429, "{text}");
        assert_eq!(answer(&server, "/api/v1/nodes").0, 200, "once only");
    }
    let id = server.faults().on(Filter::resource("nodes"), Fault::Unavailable);
    assert_eq!((answer(&server, "/api/v1/nodes").0, answer(&server, "/api/v1/pods").0), (503, 200));
    server.faults().off(id);
    assert_eq!(answer(&server, "/api/v1/nodes").0, 200);
}

#[test]
fn a_watch_hears_of_410_by_an_event() {
    let (_cluster, server) = cluster(1);
    server.faults().times(1, Filter::verb(Verb::Watch), Fault::Gone);
    let (code, text) = answer(&server, "/api/v1/nodes?watch=true&resourceVersion=5");
    assert_eq!(code, 200);
    assert!(text.contains("\"type\":\"ERROR\"") && text.contains("\"code\":410"), "{text}");
}

#[test]
fn history_that_was_compacted_is_gone_and_open_watches_go_on() {
    let (cluster, server) = cluster(3);
    let mut open = Plain::watch(&server, "/api/v1/nodes");
    cluster.compact();
    let from = |version: u64| {
        answer(&server, &format!("/api/v1/nodes?watch=true&timeoutSeconds=1&resourceVersion={version}")).1
    };
    assert!(from(3).contains("too old resource version: 3 ("));
    assert!(!from(cluster.revision()).contains("too old"));
    cluster.put(node("later")).unwrap();
    assert!(open.until("later\"").contains("ADDED"));

    cluster.keep(2);
    for at in 0..5 {
        cluster.put(node(&format!("new-{at}"))).unwrap();
    }
    let now = cluster.revision();
    assert!(from(now - 3).contains("too old"));
    assert_eq!(from(now - 2).matches("ADDED").count(), 2);
}

#[test]
fn continue_tokens_expire_with_the_history() {
    let (cluster, server) = cluster(5);
    let page = |query: &str| {
        let (code, text) = answer(&server, &format!("/api/v1/nodes?limit=2{query}"));
        let body: Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
        (code, body)
    };
    let (_, first) = page("");
    let token = first["metadata"]["continue"].as_str().unwrap();
    cluster.put(node("one-more")).unwrap();
    cluster.compact();
    let (code, refused) = page(&format!("&continue={token}"));
    assert_eq!((code, refused["reason"].as_str()), (410, Some("Expired")));
    // What it gives instead goes on where it was, at the newest version.
    let token = refused["metadata"]["continue"].as_str().unwrap();
    let (code, second) = page(&format!("&continue={token}"));
    assert_eq!((code, second["items"][0]["metadata"]["name"].as_str()), (200, Some("node-0002")));
    assert_eq!(second["metadata"]["resourceVersion"], cluster.revision().to_string());
}

#[test]
fn watches_are_dropped_cleanly_or_by_reset() {
    let (cluster, server) = cluster(1);
    let watch = Plain::watch(&server, "/api/v1/nodes");
    assert_eq!(server.open_watches(), 1);
    server.end_watches(Ending::Clean);
    eventually("no watch is open", || server.open_watches() == 0);
    cluster.put(node("unseen")).unwrap();
    server.close(Ending::Clean).unwrap();
    let (text, end) = watch.rest();
    assert!(text.ends_with("0\r\n\r\n") && !text.contains("unseen"), "a complete body: {text:?}");
    assert_eq!(end, Ok(()));

    server.open().unwrap();
    let watch = Plain::watch(&server, "/api/v1/nodes");
    server.end_watches(Ending::Reset);
    let (text, end) = watch.rest();
    assert!(!text.ends_with("0\r\n\r\n"), "{text:?}");
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
    eventually("nothing is open", || server.open_watches() + server.open_connections() == 0);
}

#[test]
fn the_port_closes_and_opens_again() {
    let (_cluster, server) = cluster(1);
    for how in [Ending::Reset, Ending::Clean] {
        server.close(how).unwrap();
        let refused = TcpStream::connect(server.address()).map(drop).map_err(|error| error.kind());
        assert_eq!(refused, Err(ErrorKind::ConnectionRefused));
        server.open().unwrap();
        assert_eq!(answer(&server, "/readyz").0, 200);
    }
}

#[test]
fn bodies_are_cut_slow_late_or_nonsense() {
    let (_cluster, server) = cluster(100);
    let all = Filter::resource("nodes");
    server.faults().times(1, all.clone(), Fault::Cut(1000));
    let mut cut = Plain::get(&server, "/api/v1/nodes");
    cut.until("\r\n\r\n");
    let (text, _) = cut.rest();
    let (length, data) = text.split_once("\r\n").unwrap();
    assert_eq!((length, data.trim_end().len()), ("3E8", 1000), "one chunk, and not the one that ends it all");

    server.faults().times(1, all.clone(), Fault::Slow(2000, Duration::from_millis(30)));
    let begun = Instant::now();
    let (_, text) = answer(&server, "/api/v1/nodes");
    // The head of the answer is no part of what comes in pieces.
    let pauses = u32::try_from(text.len() / 2000).unwrap() - 1;
    assert!(pauses > 2 && begun.elapsed() > pauses * Duration::from_millis(30), "{:?}", begun.elapsed());

    server.faults().times(1, all.clone(), Fault::Late(Duration::from_millis(200)));
    let begun = Instant::now();
    assert_eq!(answer(&server, "/api/v1/nodes").0, 200);
    assert!(begun.elapsed() > Duration::from_millis(200));

    server.faults().times(1, all.clone(), Fault::Garbage);
    let (code, text) = answer(&server, "/api/v1/nodes");
    assert_eq!(code, 200);
    assert!(serde_json::from_str::<Value>(text.split_once("\r\n\r\n").unwrap().1).is_err());

    server.faults().times(1, all, Fault::Reset);
    assert_eq!(Plain::get(&server, "/api/v1/nodes").rest().1, Err(ErrorKind::ConnectionReset));
}

#[test]
fn a_watch_breaks_in_the_middle_of_an_event() {
    let (_cluster, server) = cluster(5);
    server.faults().times(1, Filter::verb(Verb::Watch), Fault::Cut(700));
    let mut watch = Plain::get(&server, "/api/v1/nodes?watch=true");
    watch.until("\r\n\r\n");
    let (text, end) = watch.rest();
    assert_eq!(end, Ok(()));
    assert!(text.contains("ADDED") && !text.contains("node-0004") && !text.ends_with("0\r\n\r\n"), "{text}");
    eventually("it is not open any longer", || server.open_watches() == 0);
}

#[test]
fn silence_is_no_answer() {
    let (_cluster, server) = cluster(1);
    server.faults().times(1, Filter::everything(), Fault::Silent);
    let silent = Plain::get(&server, "/readyz");
    silent.0.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let (text, end) = silent.rest();
    assert!(text.is_empty() && end == Err(ErrorKind::WouldBlock), "{text:?} {end:?}");
    assert_eq!(answer(&server, "/readyz").0, 200);
}

#[test]
fn the_past_can_come_back() {
    let (cluster, server) = cluster(2);
    let then = cluster.snapshot();
    let before = cluster.revision();
    cluster.put(node("made-later")).unwrap();
    cluster.remove("nodes", None, "node-0000").unwrap();
    let watch = Plain::watch(&server, "/api/v1/nodes");
    cluster.restore(&then);
    eventually("watches of the lost time are over", || server.open_watches() == 0);
    drop(watch);
    assert_eq!(cluster.revision(), before);
    let names: Vec<Value> =
        cluster.list("nodes").unwrap().iter().map(|node| node["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["node-0000", "node-0001"]);
    // Who has seen the lost time is told nothing until it is made up for.
    let path = format!("/api/v1/nodes?watch=true&timeoutSeconds=1&resourceVersion={}", before + 2);
    let late = Plain::get(&server, &path);
    for name in ["a", "b", "c"] {
        cluster.put(node(name)).unwrap();
    }
    drop(late);
    let seen = answer(&server, &path).1;
    assert!(seen.contains("\"name\":\"c\"") && !seen.contains("\"name\":\"a\""), "{seen}");
}

#[test]
fn watches_go_on_in_a_past_that_forgot_less() {
    let (cluster, server) = cluster(2);
    let then = cluster.snapshot();
    cluster.keep(2);
    cluster.put_all((0..9).map(|at| node(&format!("forgotten-{at}")))).unwrap();
    cluster.restore(&then);
    let path = format!("/api/v1/nodes?watch=true&timeoutSeconds=5&resourceVersion={}", cluster.revision());
    let mut watch = Plain::get(&server, &path);
    watch.until("\r\n\r\n");
    cluster.put(node("again")).unwrap();
    assert!(watch.until("again\"").contains("ADDED"));
}

#[test]
fn what_was_deleted_while_nobody_watched_is_only_missing() {
    let (cluster, server) = cluster(3);
    server.end_watches(Ending::Clean);
    cluster.remove("nodes", None, "node-0001").unwrap();
    cluster.compact();
    let (_, text) = answer(&server, "/api/v1/nodes");
    assert!(!text.contains("node-0001") && text.contains("node-0002"));
}

#[test]
fn two_servers_share_a_cluster_and_fail_apart() {
    let (cluster, one) = cluster(1);
    let two = Server::tls(&cluster).unwrap();
    one.faults().on(Filter::everything(), Fault::Unavailable);
    assert_eq!(answer(&one, "/api/v1/nodes").0, 503);
    let config = kube::config::Kubeconfig::from_yaml(&two.kubeconfig(&Login::Anonymous).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let names = runtime.block_on(async {
        let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.unwrap();
        let client = kube::Client::try_from(config).unwrap();
        let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(client);
        nodes.list(&Default::default()).await.unwrap().items
    });
    assert_eq!(names.len(), 1);
}

#[test]
fn certificates_and_tokens_change_while_it_runs() {
    let cluster = Cluster::new();
    let server = Server::tls(&cluster).unwrap();
    server.set_access(Access::Login);
    let identity = cluster.issue(User::new("by-certificate")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let list = |login: Login| {
        let config = kube::config::Kubeconfig::from_yaml(&server.kubeconfig(&login).unwrap()).unwrap();
        runtime.block_on(async {
            let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.unwrap();
            let client = kube::Client::try_from(config).unwrap();
            let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(client);
            match nodes.list(&Default::default()).await {
                Ok(_) => 200,
                Err(kube::Error::Api(status)) => status.code,
                Err(error) => panic!("{error}"),
            }
        })
    };
    let token = || Login::Token("first".to_owned());
    assert_eq!((list(Login::Anonymous), list(token())), (401, 401));
    assert_eq!(list(Login::Certificate(identity)), 200);
    cluster.accounts().allow_token("first", User::service_account("kube-system", "balancing"));
    assert_eq!(list(token()), 200);
    cluster.accounts().revoke_token("first");
    assert_eq!(list(token()), 401);
    let users: Vec<String> = server.record().requests().into_iter().map(|request| request.user).collect();
    let account = "system:serviceaccount:kube-system:balancing";
    assert_eq!(users, ["nobody", "nobody", "by-certificate", account, "nobody"]);
}

#[test]
fn requests_and_bytes_are_counted() {
    let (cluster, server) = cluster(10);
    cluster.register(Kind::new("example.com/v1", "Thing", "things"));
    let before = server.bytes_sent();
    let (_, text) = answer(&server, "/api/v1/nodes");
    eventually("it is counted", || server.bytes_sent() - before == text.len() as u64);
    answer(&server, "/apis/example.com/v1/namespaces/a/things/b");
    assert_eq!(
        (server.record().count(Verb::List, "nodes"), server.record().count(Verb::Watch, "nodes")),
        (1, 0)
    );
    let last = server.record().requests().pop().unwrap();
    let about = last.resource.unwrap();
    assert_eq!((last.status, about.verb, about.group.as_str()), (404, Verb::Get, "example.com"));
    assert_eq!((about.namespace.as_deref(), about.name.as_deref()), (Some("a"), Some("b")));
    answer(&server, "/api/v1/nodes/a/status");
    let permissions: Vec<_> = server.record().permissions().into_iter().collect();
    let of = |group: &str, resource: &str, verb| (group.to_owned(), resource.to_owned(), verb);
    assert_eq!(
        permissions,
        [of("", "nodes", "list"), of("", "nodes/status", "get"), of("example.com", "things", "get")]
    );
    server.record().clear();
    assert!(server.record().requests().is_empty());
}

#[test]
fn bookmarks_come_on_order_and_by_the_clock() {
    let (cluster, server) = cluster(1);
    let mut watch = Plain::watch(&server, "/api/v1/nodes");
    watch.until("}\n");
    cluster.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "moves-on"}})).unwrap();
    cluster.bookmark();
    let bookmark = watch.until("\n\r\n");
    assert!(bookmark.contains("BOOKMARK") || watch.until("}\n").contains("BOOKMARK"), "{bookmark}");
    cluster.bookmark_every(Duration::from_millis(50));
    let mut watch = Plain::watch(&server, "/api/v1/nodes");
    for _ in 0..3 {
        watch.until("BOOKMARK");
    }
}

#[test]
fn a_streamed_list_that_is_held_comes_to_its_end_when_it_is_let_go() {
    let (cluster, server) = cluster(1);
    cluster.hold_lists(true);
    let streamed = "/api/v1/nodes?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
        &allowWatchBookmarks=true";
    let mut watch = Plain::get(&server, streamed);
    let first = watch.until("}\n");
    cluster.put(node("late")).unwrap();
    let second = watch.until("late");
    assert!(
        !first.contains("initial-events-end") && !second.contains("initial-events-end"),
        "{first}{second}"
    );
    cluster.hold_lists(false);
    let end = watch.until("initial-events-end") + &watch.until("}\n");
    let version = format!("\"resourceVersion\":\"{}\"", cluster.revision());
    assert!(end.contains("BOOKMARK") && end.contains(&version), "{end}");
    // Not held: at once.
    Plain::get(&server, streamed).until("initial-events-end");
}
