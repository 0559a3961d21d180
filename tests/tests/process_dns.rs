//! Node-local DNS by redirect, as docs/node-local-dns.md has it: real name servers, and clients of every habit. Nothing that
//! becomes of the local one may lose a query (P5), and each server gets what the rules say.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use balancing_tests::{
    dns::{Asked, Crowd, Habit, NAME, NameServer, Resolver, resolver::Reply},
    process::{Answer, Host, PATIENCE},
};
use testkit::object::{Pod, pod};

const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The cache, its successor, and the cluster's DNS, which is on another node.
const OLD: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const NEW: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const CLUSTER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 9);

/// Questions at least, in all.
const QUESTIONS: usize = 20_000;
/// Questions of each habit and family that begin and end in a phase.
const EACH: usize = 150;
/// New connections a second that the cache gets where it is limited: far fewer than there are.
const LIMIT: usize = 50;
/// How long it is limited: the first second's connections are over before it is known that it is.
const LIMITED: Duration = Duration::from_millis(2_200);
/// What an attempt may take where nothing is wrong: machines that run tests have something else to do, too.
const LONG: Duration = Duration::from_secs(10);
/// What it may take where somebody is dead: then a resolver tries again.
const SHORT: Duration = Duration::from_millis(700);

/// The manifests of the page.
fn page() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/node-local-dns.md");
    let page = fs::read_to_string(page).unwrap();
    let block = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    block.expect("the page's first block is its example").to_owned()
}

/// The same with a limit for the policy.
fn limited(limit: usize) -> String {
    let spec = "spec:\n  frontend:\n";
    let page = page();
    assert_eq!(page.matches(spec).count(), 1, "{page}");
    page.replace(spec, &format!("spec:\n  config: {{qosLimit: {limit}}}\n  frontend:\n"))
}

/// A pod of the page's DaemonSet on this node.
fn cache(name: &str, ip: Ipv4Addr) -> Pod {
    let pod = pod(&format!("kube-system/{name}")).label("k8s-app", "node-local-dns").node("n1").ip(ip);
    pod.port("dns:53/UDP").port("dns-tcp:53/TCP")
}

fn frontend() -> SocketAddr {
    SocketAddr::new(CLUSTER_IP.into(), 53)
}

/// A node that has the page's manifests, and the cluster's DNS.
struct Node {
    host: Host,
    _cluster: NameServer,
}

impl Node {
    fn new(name: &str) -> Self {
        let host = Host::new(name).unwrap();
        // The C library asks for addresses of families that the machine has.
        host.namespace().add_address([10, 1, 0, 200].into()).unwrap();
        let cluster = NameServer::start(host.namespace(), CLUSTER).unwrap();
        host.write("page.yaml", page()).unwrap();
        let dns = pod("kube-system/coredns-1").label("k8s-app", "kube-dns").node("n2").ip(CLUSTER);
        host.write("cluster.yaml", dns).unwrap();
        // A file that says nothing can't be told from one that is not written yet.
        host.write("other.yaml", pod("kube-system/other").node("n1")).unwrap();
        Self { host, _cluster: cluster }
    }

    fn server(&self, ip: Ipv4Addr) -> NameServer {
        NameServer::start(self.host.namespace(), ip).unwrap()
    }

    /// One question by a new socket.
    fn ask(&self, habit: Habit) -> Option<Reply> {
        self.host.run(|| Resolver::new(habit, frontend(), false).ask(LONG)).ok()
    }

    /// Waits until questions of both protocols go to `server`; since when they do.
    #[track_caller]
    fn until_served_by(&self, server: Ipv4Addr) -> Instant {
        testkit::wait::until(PATIENCE, &format!("{server} to answer"), || {
            [Habit::Connected, Habit::Tcp]
                .map(|habit| self.ask(habit))
                .iter()
                .all(|reply| reply.as_ref().is_some_and(|reply| reply.server == server))
        });
        Instant::now()
    }

    /// What the C library's own resolver says, by way of `getent`, whose `resolv.conf` names the ClusterIP.
    fn getent(&self) -> String {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("resolv.conf");
        fs::write(&config, format!("nameserver {CLUSTER_IP}\noptions timeout:5 attempts:2\n")).unwrap();
        let services = directory.path().join("nsswitch.conf");
        fs::write(&services, "hosts: dns\n").unwrap();
        let script = "mount --bind \"$1\" /etc/resolv.conf && mount --bind \"$2\" /etc/nsswitch.conf \
                      && exec getent ahostsv4 \"$3\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", script, "sh"]).arg(&config).arg(&services).arg(NAME);
        let answer = self.host.run(|| Answer::of(&mut command)).unwrap();
        answer.succeeds().split_whitespace().next().unwrap_or_default().to_owned()
    }
}

/// A time in which nothing changes, and who gets new connections in it; `None` = several.
#[derive(Debug)]
struct Phase {
    what: &'static str,
    from: Instant,
    to: Instant,
    fresh: Option<Ipv4Addr>,
}

impl Phase {
    fn of<'a>(&self, asked: &'a [Asked]) -> Vec<&'a Asked> {
        asked.iter().filter(|it| it.begun >= self.from && it.ended <= self.to).collect()
    }
}

/// The test's way through phases.
struct Story<'a> {
    node: &'a Node,
    crowd: Crowd,
    phases: Vec<Phase>,
}

impl Story<'_> {
    /// Waits until `fresh` is who gets new connections, then for questions of all kinds.
    #[track_caller]
    fn phase(&mut self, what: &'static str, fresh: Ipv4Addr) {
        let from = self.node.until_served_by(fresh);
        self.lasts(what, from, Some(fresh));
        assert_eq!(self.node.getent(), fresh.to_string(), "{what}");
    }

    fn lasts(&mut self, what: &'static str, from: Instant, fresh: Option<Ipv4Addr>) {
        self.crowd.goes_on(EACH);
        self.phases.push(Phase { what, from, to: Instant::now(), fresh });
    }
}

#[test]
fn p5_node_local_dns_is_drained_upgraded_unready_and_limited_and_no_query_is_lost() {
    let node = Node::new("dns");
    let host = &node.host;
    let old = node.server(OLD);
    host.write("cache.yaml", cache("cache-old", OLD)).unwrap();
    let agent = host.agent(&[]).unwrap();
    let crowd = Crowd::start(host, frontend(), LONG).unwrap();
    let mut story = Story { node: &node, crowd, phases: Vec::new() };
    let round = |story: &mut Story<'_>, names: [&str; 2], ips: [Ipv4Addr; 2], server: NameServer| {
        story.phase("ready", ips[0]);
        let mut kept = Habit::KEPT.map(|habit| Resolver::new(habit, frontend(), false));
        let stay = |kept: &mut [Resolver]| {
            for resolver in kept {
                let reply = host.run(|| resolver.ask(LONG)).unwrap();
                assert!(reply.server == ips[0] && reply.retried.is_none(), "{reply:?}");
            }
        };
        stay(&mut kept);
        // It is told to end, and still answers: what it has stays, what is new goes elsewhere.
        host.write("cache.yaml", cache(names[0], ips[0]).terminating()).unwrap();
        story.phase("drained", CLUSTER);
        stay(&mut kept);
        // Its successor is ready while it is still there, as with maxSurge.
        let next = node.server(ips[1]);
        let both = [cache(names[0], ips[0]).terminating().to_string(), cache(names[1], ips[1]).to_string()];
        host.write("cache.yaml", both.join("---\n")).unwrap();
        story.phase("surge", ips[1]);
        stay(&mut kept);
        host.write("cache.yaml", cache(names[1], ips[1])).unwrap();
        story.phase("upgraded", ips[1]);
        drop(server);
        story.phase("after the old one's end", ips[1]);
        host.write("cache.yaml", cache(names[1], ips[1]).not_ready()).unwrap();
        story.phase("unready", CLUSTER);
        host.write("cache.yaml", cache(names[1], ips[1])).unwrap();
        story.phase("ready again", ips[1]);
        host.write("page.yaml", limited(LIMIT)).unwrap();
        // It is in force when somebody is sent elsewhere.
        testkit::wait::until(PATIENCE, "the limit", || {
            node.ask(Habit::Connected).is_some_and(|reply| reply.server == CLUSTER)
        });
        let from = Instant::now();
        thread::sleep(LIMITED);
        story.lasts("limited", from, None);
        host.write("page.yaml", page()).unwrap();
        next
    };
    let mut names = ["cache-old", "cache-new"];
    let mut ips = [OLD, NEW];
    let mut server = old;
    while story.crowd.count() < QUESTIONS {
        server = round(&mut story, names, ips, server);
        names.reverse();
        ips.reverse();
    }
    story.phase("unlimited", ips[0]);
    let Story { crowd, phases, .. } = story;
    let asked = crowd.end();
    drop(server);
    judge(&asked, &phases, &agent.log());
}

fn judge(asked: &[Asked], phases: &[Phase], log: &str) {
    let reopened = asked.iter().filter(|it| it.outcome.as_ref().is_ok_and(|it| it.retried.is_some())).count();
    println!(
        "{} questions, {reopened} of them by a socket that was closed and opened again (R8)",
        asked.len()
    );
    let lost: Vec<&Asked> = asked.iter().filter(|it| !it.is_plain()).collect();
    assert!(lost.is_empty(), "{lost:#?}\n{log}");
    assert!(asked.len() >= QUESTIONS);
    for phase in phases {
        let of = phase.of(asked);
        let fresh: Vec<&Asked> = of.iter().copied().filter(|it| it.is_fresh()).collect();
        let by = |server| fresh.iter().filter(|it| it.is_by(server)).count();
        let took = phase.to - phase.from;
        println!(
            "{:>24}: {took:>8.1?}, {} questions, of {} new connections {} to the cluster's",
            phase.what,
            of.len(),
            fresh.len(),
            by(CLUSTER)
        );
        match phase.fresh {
            Some(server) => {
                let astray: Vec<&&Asked> = fresh.iter().filter(|it| !it.is_by(server)).collect();
                assert!(astray.is_empty(), "{}: not by {server}: {astray:#?}\n{log}", phase.what);
            }
            None => {
                let local = fresh.len() - by(CLUSTER);
                // Each second that has begun has room for so many, and the second before for some that ended later.
                let most = LIMIT * (took.as_secs() as usize + 2);
                assert!(local <= most && local >= LIMIT, "{local} of at most {most}\n{log}");
                assert!(by(CLUSTER) > 0, "nothing has spilled\n{log}");
            }
        }
    }
    stays(asked, phases, log);
}

/// R4: a socket that is kept stays with its server, whatever becomes of others, until that is gone or not serving.
fn stays(asked: &[Asked], phases: &[Phase], log: &str) {
    for habit in Habit::KEPT {
        for mapped in [false, true] {
            let one: Vec<&Asked> =
                asked.iter().filter(|it| it.habit == habit && it.mapped == mapped).collect();
            for pair in one.windows(2) {
                let [Ok(before), Ok(after)] = [&pair[0].outcome, &pair[1].outcome] else { continue };
                if after.fresh || before.server == after.server {
                    continue;
                }
                let is_in = |it: &&Phase| pair[0].begun >= it.from && pair[1].ended <= it.to;
                let calm = phases.iter().find(is_in);
                let calm = calm.filter(|it| !matches!(it.what, "upgraded" | "unready"));
                assert!(
                    habit == Habit::UnconnectedKept && calm.is_none(),
                    "moved: {pair:#?} {calm:?}\n{log}"
                );
            }
        }
    }
}

/// Sockets at a dead server's address, which take and count what comes.
struct Witness {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Witness {
    fn new(host: &Host, ip: Ipv4Addr) -> Self {
        let at = SocketAddr::new(IpAddr::from(ip), 53);
        let (udp, tcp) =
            host.namespace().run(|| (UdpSocket::bind(at).unwrap(), TcpListener::bind(at).unwrap()));
        udp.set_nonblocking(true).unwrap();
        tcp.set_nonblocking(true).unwrap();
        Self { udp, tcp }
    }

    fn count(&self) -> usize {
        let mut count = 0;
        while self.udp.recv_from(&mut [0; 512]).is_ok() {
            count += 1;
        }
        while self.tcp.accept().is_ok() {
            count += 1;
        }
        count
    }
}

#[test]
fn p5_node_local_dns_is_killed_and_every_query_is_answered_at_the_second_attempt() {
    let node = Node::new("dnskill");
    let host = &node.host;
    let agent = host.agent(&[]).unwrap();
    let crowd = Crowd::start(host, frontend(), LONG).unwrap();
    let second = Duration::from_secs(1);
    let mut deaths = Vec::new();
    for number in 0..4 {
        let (name, ip) = (format!("cache-{number}"), Ipv4Addr::new(10, 1, 1, number));
        let server = node.server(ip);
        host.write("cache.yaml", cache(&name, ip)).unwrap();
        node.until_served_by(ip);
        crowd.goes_on(10);
        crowd.set_timeout(SHORT);
        // Nobody waits for longer any more.
        crowd.goes_on(1);
        let killed = Instant::now();
        drop(server);
        thread::sleep(Duration::from_millis(100));
        // The kubelet has seen it. In every other round the pod is gone, too.
        let told = Instant::now();
        match number % 2 {
            0 => host.write("cache.yaml", cache(&name, ip).not_ready()).unwrap(),
            _ => host.write("cache.yaml", cache(&name, ip).phase("Failed").not_ready()).unwrap(),
        }
        thread::sleep((told + second).saturating_duration_since(Instant::now()));
        let witness = Witness::new(host, ip);
        crowd.set_timeout(LONG);
        crowd.goes_on(20);
        assert_eq!(witness.count(), 0, "the dead one was asked\n{}", agent.log());
        deaths.push((ip, killed, told, Instant::now()));
    }
    let asked = crowd.end();
    let log = agent.log();
    let lost: Vec<&Asked> = asked.iter().filter(|it| it.outcome.is_err()).collect();
    assert!(lost.is_empty(), "not answered at the second attempt either: {lost:#?}\n{log}");
    for (ip, killed, told, judged) in deaths {
        let of: Vec<&Asked> = asked.iter().filter(|it| it.ended > killed && it.begun < judged).collect();
        let twice: Vec<&&Asked> = of.iter().filter(|it| !it.is_plain()).collect();
        let slowest =
            twice.iter().map(|it| it.ended.saturating_duration_since(told)).max().unwrap_or_default();
        println!(
            "{ip}: {} questions since it died, {} asked twice, the last of them answered {slowest:?} after readiness",
            of.len(),
            twice.len()
        );
        assert!(!twice.is_empty(), "nobody has noticed\n{log}");
        let late: Vec<&&&Asked> =
            twice.iter().filter(|it| it.begun < told && it.ended > told + second).collect();
        assert!(late.is_empty(), "answered later than a second after readiness: {late:#?}\n{log}");
        let after: Vec<&Asked> = of.into_iter().filter(|it| it.begun > told + second).collect();
        assert!(after.len() > 100);
        for one in after {
            assert!(one.is_plain() && one.is_by(CLUSTER), "{one:#?}\n{log}");
        }
    }
    let others: Vec<&Asked> = asked.iter().filter(|it| !it.is_plain()).collect();
    assert!(others.iter().all(|it| it.ended - it.begun >= SHORT / 2), "{others:#?}");
}

/// The commands of the page show who answers.
#[test]
fn p5_get_policies_and_why_show_who_answers() {
    let node = Node::new("dnsshow");
    let host = &node.host;
    host.write("cache.yaml", cache("cache", OLD)).unwrap();
    let _agent = host.agent(&[]).unwrap();
    let _server = node.server(OLD);
    let show = |what: &[&str]| host.balancing(what).unwrap().succeeds().to_owned();
    let mut command = Command::new("sleep");
    host.namespace().contain(&mut command).unwrap();
    let mut client = host.cgroup().spawn(command.arg("60")).unwrap();
    let (pid, to) = (client.id().to_string(), format!("{CLUSTER_IP}:53/udp"));
    for (ready, server, why) in [(true, OLD, "balanced"), (false, CLUSTER, "fallback")] {
        let cache = cache("cache", OLD);
        host.write("cache.yaml", if ready { cache } else { cache.not_ready() }).unwrap();
        node.until_served_by(server);
        let policies = show(&["get", "policies"]);
        let state = if ready { "redirecting" } else { "falling back" };
        let shown = policies.lines().filter(|it| it.contains(" node-local-dns ") && it.contains(state));
        assert_eq!(shown.count(), 2, "of both protocols: {policies}");
        let json = show(&["why", &pid, &to, "-o", "json"]);
        assert!(json.contains(&format!("{why:?}")) && json.contains(&format!("{server}:53")), "{json}");
    }
    client.kill().unwrap();
    client.wait().unwrap();
}
