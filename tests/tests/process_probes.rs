//! Addresses of policies that are asked whether they are well: real servers that stop answering, answer badly, hang, and come
//! back, and clients that connect all the while.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use balancing_tests::process::{Agent, Host, PATIENCE, question::ask};
use testkit::{Backend, wait};

const PORT: u16 = 8080;
/// Seconds from one question to the next, and the answers that count.
const INTERVAL: u32 = 1;
const UNHEALTHY: u32 = 3;
/// Within this an address leaves, and comes back, where a machine has time for it: this one runs other tests too.
const LEAVES: Duration = Duration::from_millis((INTERVAL * UNHEALTHY + 1) as u64 * 1000 + BUSY);
const COMES: Duration = Duration::from_millis((INTERVAL + 1) as u64 * 1000 + BUSY);
const BUSY: u64 = 500;

/// A policy `name` from `vip`:80 to the port [`PORT`] of addresses, with further fields of its backend.
fn policy(name: &str, vip: &str, addresses: &[&str], more: &str) -> String {
    format!(
        "apiVersion: balancing.elf.io/v1beta1\nkind: BalancingPolicy\nmetadata: {{name: {name}}}\nspec:\n  frontend:\n    \
         addressMatcher: {{ip: \"{vip}\", toPorts: [{{port: \"80\", protocol: TCP}}]}}\n  backend:\n    addressEndpoint:\n      \
         addresses: {addresses:?}\n      toPorts: [{{port: \"{PORT}\", protocol: TCP}}]\n{more}---\n"
    )
}

/// The field of a health check.
fn check(protocol: &str, more: &str) -> String {
    format!(
        "      healthCheck: {{protocol: {protocol}, intervalSeconds: {INTERVAL}, unhealthyThreshold: {UNHEALTHY}{more}}}\n"
    )
}

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

/// Who answers one connection.
fn once(vip: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&vip, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    // Who greets and closes may cut off what it did not read.
    let read = stream.read_to_string(&mut text);
    if text.is_empty() {
        read?;
    }
    let name = text.lines().last().and_then(|line| line.split(' ').next());
    Ok(name.unwrap_or_default().to_owned())
}

/// Everybody who answers within a number of connections, or how these fail.
fn who(host: &Host, vip: &str, times: usize) -> BTreeSet<String> {
    let answer = |answer: io::Result<String>| answer.unwrap_or_else(|error| error.kind().to_string());
    host.run(|| (0..times).map(|_| answer(once(at(vip, 80)))).collect())
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn unhealthy(agent: &Agent) -> (usize, usize) {
    let checks = agent.status().unwrap().health_checks;
    (checks.addresses, checks.unhealthy)
}

/// Connects without a pause while `work` goes on; when the last failure was, and how many connections came after it.
fn connecting<T>(host: &Host, vip: &str, work: impl FnOnce() -> T) -> (T, Option<Instant>, usize) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            host.run(|| {
                let (mut last, mut since) = (None, 0);
                while !over.load(SeqCst) {
                    let begun = Instant::now();
                    match once(at(vip, 80)) {
                        Ok(_) => since += 1,
                        Err(_) => (last, since) = (Some(begun), 0),
                    }
                    thread::sleep(Duration::from_millis(2));
                }
                (last, since)
            })
        });
        let done = work();
        over.store(true, SeqCst);
        let (last, since) = client.join().unwrap();
        (done, last, since)
    })
}

/// A server of HTTP that answers with a status, or not at all.
struct Web {
    /// 0 = it accepts and says nothing.
    status: Arc<AtomicU16>,
    asked: Arc<AtomicUsize>,
}

impl Web {
    /// It serves until the test is over.
    fn serve(host: &Host, name: &'static str, ip: &str) -> Self {
        let listener = host.namespace().run(|| TcpListener::bind(at(ip, PORT))).unwrap();
        let (status, asked) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicUsize::new(0)));
        let web = Self { status: status.clone(), asked: asked.clone() };
        thread::spawn(move || {
            let silent = Mutex::new(Vec::new());
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                asked.fetch_add(1, SeqCst);
                let status = status.load(SeqCst);
                if status == 0 {
                    silent.lock().unwrap().push(stream);
                    continue;
                }
                let mut request = [0; 1024];
                let _ = stream.read(&mut request);
                let length = name.len();
                let _ = write!(stream, "HTTP/1.1 {status} So\r\nContent-Length: {length}\r\n\r\n{name}");
            }
        });
        web
    }
}

#[test]
fn an_address_that_stops_answering_leaves_and_comes_back_while_connections_go_on() {
    let host = Host::new("probes-tcp").unwrap();
    let families = [
        ("four", "169.254.0.90", ["10.1.0.1", "10.1.0.2"]),
        ("six", "fd00:90::1", ["fd00:1::1", "fd00:1::2"]),
    ];
    let manifest: Vec<String> =
        families.iter().map(|(name, vip, ips)| policy(name, vip, ips, &check("tcp", ""))).collect();
    let serve = |name: &str, ip: &str| Backend::tcp(host.namespace(), name, at(ip, PORT)).unwrap();
    let _steady: Vec<Backend> = families.iter().map(|(_, _, ips)| serve("b2", ips[1])).collect();
    let mut servers: Vec<Backend> = families.iter().map(|(_, _, ips)| serve("b1", ips[0])).collect();
    host.write("policies.yaml", manifest.concat()).unwrap();
    let agent = host.agent_inside(&["--metrics-port", "5811"]).unwrap();
    wait::until_equal(PATIENCE, &(4, 0), || unhealthy(&agent));
    for (_, vip, _) in families {
        assert_eq!(who(&host, vip, 50), names(&["b1", "b2"]));
    }
    for (_, vip, ips) in families {
        let ((), last, since) = connecting(&host, vip, || {
            let begun = Instant::now();
            servers.remove(0).close();
            wait::until_equal(PATIENCE, &(4, 1), || unhealthy(&agent));
            let took = begun.elapsed();
            assert!(took <= LEAVES, "it left after {took:?}\n{}", agent.log());
            println!("{vip}: left after {took:?}");
            // Connections that were under way.
            thread::sleep(Duration::from_millis(100));
        });
        // Until then some of them are refused, which shows that they were asked for.
        assert!(last.is_some() && since > 20, "{last:?} {since}\n{}", agent.log());
        let ((), last, since) = connecting(&host, vip, || {
            thread::sleep(Duration::from_millis(500));
            let server = serve("b1", ips[0]);
            let begun = Instant::now();
            wait::until_equal(PATIENCE, &(4, 0), || unhealthy(&agent));
            let took = begun.elapsed();
            assert!(took <= COMES, "it came back after {took:?}\n{}", agent.log());
            println!("{vip}: came back after {took:?}");
            thread::sleep(Duration::from_millis(100));
            servers.push(server);
        });
        assert!(last.is_none() && since > 100, "{last:?} {since}\n{}", agent.log());
        assert_eq!(who(&host, vip, 50), names(&["b1", "b2"]));
    }
    let log = agent.log();
    for words in [
        "BalancingPolicy four: 10.1.0.1:8080 is unhealthy: it refuses connections",
        "BalancingPolicy four: 10.1.0.1:8080 is healthy again",
        "BalancingPolicy six: [fd00:1::1]:8080 is unhealthy: it refuses connections",
    ] {
        assert!(log.contains(words), "{words:?} is missing:\n{log}");
    }
    assert_eq!(log.matches("is unhealthy").count(), 2, "only changes are told:\n{log}");
    let metrics = ask(&host, (IpAddr::from([127, 0, 0, 1]), 5811), "/metrics").unwrap().body;
    for line in [
        "balancing_probe_targets{state=\"healthy\"} 4",
        "balancing_probe_targets{state=\"unhealthy\"} 0",
        "balancing_probes_total{outcome=\"good\"}",
        "balancing_probes_total{outcome=\"refused\"}",
    ] {
        assert!(metrics.contains(line), "{line} is missing:\n{metrics}");
    }
    let status = host.balancing(&["status"]).unwrap();
    assert!(status.succeeds().contains("4 addresses of policies are asked, 0 are unhealthy"), "{status:?}");
}

#[test]
fn bad_answers_and_none_count_and_with_nobody_well_all_are_used_or_none() {
    let host = Host::new("probes-http").unwrap();
    let (first, second) = (Web::serve(&host, "b1", "10.1.0.1"), Web::serve(&host, "b2", "10.1.0.2"));
    let ips = ["10.1.0.1", "10.1.0.2"];
    let all =
        policy("all", "169.254.0.90", &ips, &check("http", ", path: /healthz, whenAllUnhealthy: UseAll"));
    let none =
        policy("none", "169.254.0.91", &ips, &check("http", ", path: /healthz, whenAllUnhealthy: Refuse"));
    host.write("policies.yaml", all + &none).unwrap();
    let agent = host.agent_inside(&[]).unwrap();
    wait::until_equal(PATIENCE, &(4, 0), || unhealthy(&agent));
    let both = |once: BTreeSet<String>| {
        for vip in ["169.254.0.90", "169.254.0.91"] {
            assert_eq!(who(&host, vip, 50), once, "{vip}\n{}", agent.log());
        }
    };
    both(names(&["b1", "b2"]));
    let within = |what: &str, time: Duration, expected: (usize, usize)| {
        let begun = Instant::now();
        wait::until_equal(PATIENCE, &expected, || unhealthy(&agent));
        let took = begun.elapsed();
        assert!(took <= time, "{what} after {took:?}\n{}", agent.log());
        println!("{what}: after {took:?}");
    };
    for (what, status) in [("an error", 500), ("silence", 0)] {
        first.status.store(status, SeqCst);
        within(what, LEAVES, (4, 2));
        both(names(&["b2"]));
        first.status.store(200, SeqCst);
        within("good answers", COMES, (4, 0));
        both(names(&["b1", "b2"]));
    }
    first.status.store(404, SeqCst);
    second.status.store(503, SeqCst);
    within("errors of both", LEAVES, (4, 4));
    assert_eq!(who(&host, "169.254.0.90", 50), names(&["b1", "b2"]), "all of them");
    assert_eq!(who(&host, "169.254.0.91", 5), names(&["connection refused"]));
    second.status.store(302, SeqCst);
    within("a redirect", COMES, (4, 2));
    both(names(&["b2"]));
    let log = agent.log();
    for words in ["it answers with status 500", "no answer within 1 s", "it answers with status 503"] {
        assert!(log.contains(words), "{words:?} is missing:\n{log}");
    }
}

#[test]
fn an_edit_keeps_what_is_known_and_nobody_is_asked_for_a_policy_that_is_gone() {
    let host = Host::new("probes-edit").unwrap();
    let server = Web::serve(&host, "b2", "10.1.0.2");
    let _other = Web::serve(&host, "b3", "10.1.0.3");
    let vip = "169.254.0.90";
    host.write("policy.yaml", policy("p", vip, &["10.1.0.1", "10.1.0.2"], &check("tcp", ""))).unwrap();
    let mut agent = host.agent_inside(&[]).unwrap();
    wait::until_equal(PATIENCE, &(2, 1), || unhealthy(&agent));
    assert_eq!(who(&host, vip, 50), names(&["b2"]));

    // So rarely that nothing new is learnt, and with another address.
    let rarely = "      weights: [5, 1, 1]\n      healthCheck: {protocol: tcp, intervalSeconds: 300}\n";
    host.write("policy.yaml", policy("p", vip, &["10.1.0.1", "10.1.0.2", "10.1.0.3"], rarely)).unwrap();
    wait::until_equal(PATIENCE, &(3, 1), || unhealthy(&agent));
    assert_eq!(who(&host, vip, 100), names(&["b2", "b3"]));

    // A health check of what leads elsewhere is told of.
    let own = policy("own", "169.254.0.91", &["10.1.0.2"], "      healthCheck: {protocol: tcp, port: 80}\n");
    let leads = policy("leads", "10.1.0.2", &["10.1.0.3"], "");
    host.write("own.yaml", own + &leads).unwrap();
    let notice = "BalancingPolicy own: 10.1.0.2:80 is an address of a service or policy itself";
    agent.wait_status(notice, |status| status.notices.iter().any(|it| it.starts_with(notice))).unwrap();
    host.remove("own.yaml").unwrap();
    wait::until_equal(PATIENCE, &(3, 1), || unhealthy(&agent));

    // Without a check it is well, whatever was found of it.
    host.write("policy.yaml", policy("p", vip, &["10.1.0.1", "10.1.0.2"], "")).unwrap();
    wait::until_equal(PATIENCE, &(0, 0), || unhealthy(&agent));
    assert_eq!(who(&host, vip, 50), names(&["b2", "connection refused"]));

    host.write("policy.yaml", policy("p", vip, &["10.1.0.1", "10.1.0.2"], &check("tcp", ""))).unwrap();
    wait::until_equal(PATIENCE, &(2, 1), || unhealthy(&agent));
    // What an agent has found ends with it.
    agent.kill().unwrap();
    let agent = host.agent_inside(&[]).unwrap();
    wait::until_equal(PATIENCE, &(2, 1), || unhealthy(&agent));
    assert_eq!(who(&host, vip, 50), names(&["b2"]));

    host.remove("policy.yaml").unwrap();
    wait::until_equal(PATIENCE, &(0, 0), || unhealthy(&agent));
    let asked = server.asked.load(SeqCst);
    thread::sleep(Duration::from_millis(2500));
    assert_eq!(server.asked.load(SeqCst), asked, "nobody asks it any more");
}

#[test]
fn the_page_on_external_services_is_right() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/external-services.md");
    let page = fs::read_to_string(page).unwrap();
    let (example, _) = page.split_once("```yaml\n").unwrap().1.split_once("```").unwrap();
    let host = Host::new("probes-page").unwrap();
    host.write("directory.yaml", example).unwrap();
    let file = host.manifests().join("directory.yaml").display().to_string();
    host.balancing(&["check", &file]).unwrap().succeeds();
    let agent = host.agent_inside(&[]).unwrap();
    wait::until_equal(PATIENCE, &(3, 0), || unhealthy(&agent));
    let status = agent.status().unwrap();
    assert_eq!((status.problems, status.notices, status.frontends), (vec![], vec![], 2));
    // It shows these words.
    let shown = host.balancing(&["status"]).unwrap();
    let words = shown
        .succeeds()
        .lines()
        .find_map(|line| line.strip_prefix("health checks"))
        .unwrap()
        .trim()
        .to_owned();
    let (_, as_words) = page.split_once("health checks  ").unwrap();
    assert_eq!(as_words.lines().next().unwrap().replace("asked, 1 ", "asked, 0 "), words);
    let directory = host.manifests().display().to_string();
    let plan = host.balancing(&["plan", "--node-name", "n1", "--manifests", &directory]).unwrap();
    assert_eq!(plan.code, Some(0), "what is in force is what the page says: {plan:?}");
}
