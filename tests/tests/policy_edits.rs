//! P9: policies and services that are edited all the time, under traffic.

#![allow(clippy::unwrap_used)]

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use balancing_tests::process::{Dice, Host, PATIENCE, traffic::Traffic, web};
use testkit::{
    Backend, Family, Kind, exchange,
    object::{documents, pod},
};

const EDITS: usize = 1_000;
/// Between two edits: a bit more than what the agent waits for others that belong together.
const PACE: Duration = Duration::from_millis(12);
/// Last byte of the edited service's VIPs; its own backends; pods on this node, by their label; addresses elsewhere.
const LOW: u8 = 10;
const SERVICE: [u8; 2] = [1, 2];
const PODS: [(u8, &str); 2] = [(3, "a"), (4, "b")];
const ELSEWHERE: u8 = 5;
/// A service that nobody edits.
const OTHER: u8 = 20;
/// A service that is there when the edits are over.
const LAST: u8 = 21;

fn ips(low: u8) -> [IpAddr; 2] {
    [[10, 1, 0, low].into(), [0xfd00, 1, 0, 0, 0, 0, 0, u16::from(low)].into()]
}

/// Servers as those of [`web::serve`], also on the other ports that policies lead to.
fn serve(host: &Host) -> Vec<Backend> {
    let mut servers = web::serve(host, &[1, 2, 3, 4, 5, 6]).unwrap();
    for low in [3, 4, 5] {
        for ip in ips(low) {
            let (namespace, name) = (host.namespace(), format!("b{low}"));
            servers.push(Backend::tcp(namespace, &name, SocketAddr::new(ip, 8081)).unwrap());
            servers.push(Backend::udp(namespace, &name, SocketAddr::new(ip, 5354)).unwrap());
        }
    }
    servers
}

/// Backend ports: two pairs of numbers, and names.
const PORTS: [[&str; 2]; 3] = [["8080", "5353"], ["8081", "5354"], ["web", "names"]];

fn policy(kind: &str, name: &str, limit: usize, frontend: &str, backend: &str) -> String {
    let config = if limit == 0 { String::new() } else { format!("  config: {{qosLimit: {limit}}}\n") };
    format!(
        "apiVersion: balancing.elf.io/v1beta1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n{config}  \
         frontend: {{{frontend}}}\n  backend: {{{backend}}}\n"
    )
}

fn to_ports([tcp, udp]: [&str; 2]) -> String {
    format!(
        "toPorts: [{{name: http, port: {tcp:?}, protocol: TCP}}, {{name: dns, port: {udp:?}, protocol: UDP}}]"
    )
}

/// What the file says.
#[derive(Clone, Debug, Default)]
struct World {
    service: bool,
    /// A LocalRedirectPolicy for the service: which pods it selects, their ports, its limit.
    redirect: Option<(&'static str, usize, usize)>,
    /// BalancingPolicies for its VIPs: to a pod, or else to addresses; and their ports.
    balancing: Option<(bool, usize)>,
    /// Is that pod ready?
    ready: [bool; 2],
    /// The edits are over.
    is_last: bool,
}

impl World {
    /// Something else. There is always somebody who takes a connection: the service, or policies for its addresses whose backends
    /// are there.
    fn edit(&mut self, dice: &mut Dice) {
        match dice.below(8) {
            0 => self.service = !self.service,
            1 => self.redirect = None,
            2 | 3 => {
                let labels = ["a", "b", "nobody", "everybody"];
                self.redirect = Some((labels[dice.below(4)], dice.below(3), [0, 0, 20][dice.below(3)]));
            }
            4 => self.balancing = None,
            5 | 6 => self.balancing = Some((dice.below(2) == 0, dice.below(3))),
            _ => {
                let index = dice.below(2);
                self.ready[index] = !self.ready[index];
            }
        }
        let is_covered = match self.balancing {
            Some((true, _)) => self.ready[0],
            Some((false, _)) => true,
            None => false,
        };
        self.service |= !is_covered;
    }

    fn text(&self) -> String {
        let mut all: Vec<String> = Vec::new();
        if self.service {
            all.push(web::manifest("web", LOW, &SERVICE));
        }
        if self.is_last {
            all.push(web::manifest("last", LAST, &[6]));
        }
        for ((low, label), ready) in PODS.into_iter().zip(self.ready) {
            let mut it = pod(&format!("pod-{low}")).label("app", label).label("all", "yes").node("n1");
            it = it.port("web:8080/TCP").port("names:5353/UDP");
            it = ips(low).into_iter().fold(it, |it, ip| it.ip(ip));
            all.push(if ready { it } else { it.not_ready() }.to_string());
        }
        if let Some((label, ports, limit)) = self.redirect {
            let selector = match label {
                "everybody" => "matchExpressions: [{key: all, operator: Exists}]".to_owned(),
                label => format!("matchLabels: {{app: {label}}}"),
            };
            let frontend = "serviceMatcher: {namespace: default, serviceName: web}";
            let backend = format!("endpointSelector: {{{selector}}}, {}", to_ports(PORTS[ports]));
            all.push(policy("LocalRedirectPolicy", "redirect", limit, frontend, &backend));
        }
        if let Some((to_pod, ports)) = self.balancing {
            for (number, family) in [Family::V4, Family::V6].into_iter().enumerate() {
                let vip = web::vip(Kind::Tcp, family, LOW).ip();
                let frontend =
                    format!("addressMatcher: {{ip: {:?}, {}}}", vip.to_string(), to_ports(["80", "53"]));
                let backend = if to_pod {
                    let selector = "endpointSelector: {matchLabels: {app: a}}";
                    format!("serviceEndpoint: {{{selector}, {}}}", to_ports(PORTS[ports]))
                } else {
                    // Addresses have no names of ports.
                    let ip = ips(ELSEWHERE)[number].to_string();
                    format!("addressEndpoint: {{addresses: [{ip:?}], {}}}", to_ports(PORTS[ports % 2]))
                };
                all.push(policy("BalancingPolicy", &format!("balancing-{number}"), 0, &frontend, &backend));
            }
        }
        let all: Vec<&dyn Display> = all.iter().map(|it| it as &dyn Display).collect();
        documents(&all)
    }
}

/// Waits until every kind of socket gets one of `backends` for this VIP.
#[track_caller]
fn until_served_by(host: &Host, low: u8, backends: &[u8]) {
    let names: Vec<String> = backends.iter().map(|low| format!("b{low}")).collect();
    testkit::wait::until(PATIENCE, &format!("{names:?} to answer"), || {
        Kind::ALL.into_iter().flat_map(|kind| Family::ALL.map(|family| (kind, family))).all(
            |(kind, family)| {
                let seen = host.run(|| exchange(kind, family, web::vip(kind, family, low)));
                seen.is_ok_and(|seen| names.contains(&seen.backend))
            },
        )
    });
}

#[test]
fn p9_a_thousand_edits_of_policies_and_services_lose_no_connection() {
    let given = std::env::var("BALANCING_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = given.unwrap_or(now);
    println!("BALANCING_SEED={seed}");
    let mut dice = Dice::new(seed);
    let host = Host::new("edits").unwrap();
    let _servers = serve(&host);
    let mut world = World { service: true, ready: [true; 2], ..World::default() };
    host.write("world.yaml", world.text()).unwrap();
    host.write("other.yaml", web::manifest("other", OTHER, &[6])).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    let traffic = Traffic::with(&host, &[(OTHER, &[6])], &[(LOW, &[1, 2, 3, 4, 5])]).unwrap();

    let mut due = Instant::now();
    for edit in 0..EDITS {
        world.edit(&mut dice);
        host.write("world.yaml", world.text()).unwrap();
        due += PACE;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if edit % 100 == 0 {
            traffic.has_not_failed(&format!("edit {edit}: {world:#?}\n{}", agent.log()));
        }
    }
    // Nothing of all that is remembered: each level decides alone, once those above it are gone.
    let all = World {
        service: true,
        redirect: Some(("b", 1, 0)),
        balancing: Some((false, 0)),
        ready: [true; 2],
        is_last: true,
    };
    // What is served until then may be of any edit: agents of busy machines are some behind.
    host.write("world.yaml", all.text()).unwrap();
    until_served_by(&host, LAST, &[6]);
    // It answers when it has written the rest too.
    agent.status().unwrap();
    let without_redirect = World { redirect: None, ..all.clone() };
    let service_only = World { balancing: None, ..without_redirect.clone() };
    let unready = World { ready: [true, false], ..all.clone() };
    for (world, backends) in [
        (&all, &[4][..]),
        (&unready, &[5]),
        (&all, &[4]),
        (&without_redirect, &[5]),
        (&service_only, &SERVICE),
        (&all, &[4]),
        (&service_only, &SERVICE),
    ] {
        host.write("world.yaml", world.text()).unwrap();
        until_served_by(&host, LOW, backends);
        for _ in 0..5 {
            web::all_answer(&host, LOW, backends);
        }
    }
    traffic.has_not_failed(&agent.log());
    let exchanges = traffic.end();
    println!("{exchanges} exchanges over {EDITS} edits");
    assert!(exchanges > EDITS as u64, "{exchanges}");
    let status = agent.wait_ready().unwrap();
    assert_eq!((status.problems, status.audit_differences), (vec![], 0), "{}", agent.log());
}
