//! Policies in a running agent: who is not redirected (P7), and what commands tell of policies.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fs, net::SocketAddr};

use balancing_tests::process::{Host, PATIENCE, pod::Pod};
use kernel::{Maps, Pins, TableStore};
use serde_json::Value;
use testkit::{
    Backend, Cgroup,
    object::{documents, service, slice},
};

const VIP: &str = "10.96.0.10:53";
const CLUSTERS: &str = "10.1.0.1:5353";
const LOCAL: &str = "10.1.0.30:5353";
/// Where pods on the host's network would be.
const UID: &str = "01234567-89ab-cdef-0123-456789abcdef";

/// A service `dns` with one backend, and a policy that redirects it to pods with `app: local-dns`.
fn dns(limit: u32) -> String {
    let service = service("dns").cluster_ip("10.96.0.10").port_with("53/UDP", &[]);
    let slice = slice("dns-4", "dns").port("5353/UDP").endpoint("10.1.0.1");
    let policy = format!(
        "
apiVersion: balancing.elf.io/v1beta1
kind: LocalRedirectPolicy
metadata: {{name: dns}}
spec:
  config: {{qosLimit: {limit}}}
  frontend: {{serviceMatcher: {{serviceName: dns, namespace: default}}}}
  backend:
    endpointSelector: {{matchLabels: {{app: local-dns}}}}
    toPorts: [{{port: '5353', protocol: UDP}}]
"
    );
    format!("{}---{policy}", documents(&[&service, &slice]))
}

fn pod(name: &str, ip: &str, fields: &str, ready: bool) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: kube-system, uid: {UID}, labels: {{app: local-dns}}}}
spec: {{nodeName: n1, containers: []{fields}}}
status: {{podIPs: [{{ip: {ip}}}], conditions: [{{type: Ready, status: '{}'}}]}}
",
        if ready { "True" } else { "False" }
    )
}

fn serve(pod: &Pod) -> [Backend; 2] {
    [CLUSTERS, LOCAL].map(|at| Backend::udp(pod.namespace(), at, at.parse::<SocketAddr>().unwrap()).unwrap())
}

/// Whom a new socket of a pod, in a cgroup, asks in fact.
fn asks(pod: &Pod, cgroup: &Cgroup) -> String {
    pod.dial(cgroup, VIP).unwrap().ask(None).unwrap().backend.to_string()
}

fn rows(host: &Host) -> Vec<Value> {
    let answer = host.balancing(&["get", "policies", "-o", "json"]).unwrap();
    serde_json::from_str(answer.succeeds()).unwrap()
}

#[test]
fn p7_own_backends_reach_the_service_by_namespace_and_after_a_restart() {
    let host = Host::new("policyown").unwrap();
    let (own, other) =
        (Pod::new("policyownin", "10.1.0.30").unwrap(), Pod::new("policyownout", "10.1.8.1").unwrap());
    let _backends = (serve(&own), serve(&other));
    host.write("dns.yaml", dns(0)).unwrap();
    host.write("pod.yaml", pod("local", "10.1.0.30", "", true)).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    // From the very first connection on: whoever redirects knows his own backends.
    assert_eq!(asks(&own, host.cgroup()), CLUSTERS, "{}", agent.log());
    assert_eq!(asks(&other, host.cgroup()), LOCAL);

    // What commands say.
    let row = &rows(&host)[0];
    assert_eq!((row["kind"].as_str(), row["name"].as_str()), (Some("LocalRedirectPolicy"), Some("dns")));
    assert_eq!((row["state"].as_str(), row["below"].as_str()), (Some("redirecting"), Some("ClusterIP")));
    assert_eq!((row["own"].as_u64(), row["fallbacks"].as_u64()), (Some(1), Some(0)));
    assert_eq!(row["backends"], serde_json::json!([LOCAL]));
    // Threads can be looked at as processes can.
    for pod in [&own, &other] {
        fs::write(host.cgroup().path().join("cgroup.threads"), pod.thread().to_string()).unwrap();
    }
    let why = |pod: &Pod| {
        let answer = host.balancing(&["why", &pod.thread().to_string(), "10.96.0.10:53/udp"]).unwrap();
        answer.succeeds().to_owned()
    };
    let told = why(&other);
    assert!(told.contains("policy    LocalRedirectPolicy dns: takes it"), "{told}");
    assert!(told.contains(LOCAL) && !told.contains(CLUSTERS), "{told}");
    assert!(told.contains("kube-system/local") && told.contains("selected"), "{told}");
    let told = why(&own);
    assert!(told.contains("dns: the client is one of its own backends"), "{told}");
    assert!(told.contains("service   default/dns") && told.contains(CLUSTERS), "{told}");

    agent.kill().unwrap();
    assert_eq!(asks(&own, host.cgroup()), CLUSTERS, "no agent runs");
    let mut agent = host.agent(&[]).unwrap();
    assert_eq!(asks(&own, host.cgroup()), CLUSTERS);

    // No longer one of them: as all others. And a new one.
    host.write("pod.yaml", pod("local", "10.1.8.1", "", true)).unwrap();
    testkit::wait::until(PATIENCE, "the pods to change roles", || {
        let backends = [(&own, "10.1.8.1:5353"), (&other, CLUSTERS)];
        backends.iter().all(|(pod, backend)| {
            pod.dial(host.cgroup(), VIP).is_ok_and(|_| {
                let why = why(pod);
                why.contains(*backend)
            })
        })
    });
    agent.kill().unwrap();
}

#[test]
fn p7_backends_on_the_hosts_network_are_known_by_their_cgroup() {
    let host = Host::new("policyhost").unwrap();
    // Here the host is a namespace as any other.
    let clients = Pod::new("policyhostc", "10.1.8.1").unwrap();
    let _backends = serve(&clients);
    host.write("dns.yaml", dns(0)).unwrap();
    host.write("pod.yaml", pod("local", "10.1.0.30", ", hostNetwork: true", true)).unwrap();
    let own = host.cgroup().child(&format!("pod{UID}")).unwrap();
    let container = own.child("container").unwrap();
    let beside = host.cgroup().child("beside").unwrap();
    let mut agent = host.agent(&[]).unwrap();
    assert_eq!(asks(&clients, &beside), LOCAL, "{}", agent.log());
    for cgroup in [&own, &container] {
        assert_eq!(asks(&clients, cgroup), CLUSTERS, "{}", agent.log());
    }
    assert_eq!(asks(&clients, host.cgroup()), LOCAL);
    let status = agent.status().unwrap();
    assert_eq!(status.problems, Vec::<String>::new());

    // One whose cgroup is nowhere is told of.
    host.write(
        "pod.yaml",
        pod("local", "10.1.0.30", ", hostNetwork: true", true).replace(UID, &"f".repeat(32)),
    )
    .unwrap();
    agent
        .wait_status("the missing cgroup", |status| {
            status.problems.iter().any(|it| it.contains("P7") && it.contains("kube-system/local"))
        })
        .unwrap();
    agent.kill().unwrap();
}

/// Maps that nothing refers to are looked after, too.
#[test]
fn r6_limits_and_own_backends_that_vanish_from_the_maps_come_back() {
    let host = Host::new("policyaudit").unwrap();
    // Agents see the namespaces of the whole machine: no other test may have this address.
    let _own = Pod::new("policyauditin", "10.1.0.31").unwrap();
    host.write("dns.yaml", dns(3)).unwrap();
    host.write("pod.yaml", pod("local", "10.1.0.31", "", true)).unwrap();
    let agent = host.agent(&["--audit-interval", "500ms"]).unwrap();
    let mut maps = Maps::open(&Pins::new(host.pins())).unwrap();
    let before = (maps.exempt().unwrap(), maps.limits(0).unwrap(), maps.policies().unwrap().len());
    assert_eq!((before.0.len(), before.1.len(), before.2), (1, 1, 1));
    maps.set_exempt(&BTreeSet::new()).unwrap();
    maps.set_policies(&BTreeSet::new(), &BTreeSet::new(), true).unwrap();
    let are_back = || {
        let now = (maps.exempt().unwrap(), maps.limits(0).unwrap(), maps.policies().unwrap().len());
        now == before
    };
    testkit::wait::until(PATIENCE, "what has vanished", are_back);
    agent.wait_status("the audit's count", |status| status.audit_differences >= 2).unwrap();
}

#[test]
fn p5_p6_commands_show_what_a_policy_did_not_take() {
    let host = Host::new("policyshown").unwrap();
    let clients = Pod::new("policyshownc", "10.1.8.1").unwrap();
    let _backends = serve(&clients);
    host.write("dns.yaml", dns(3)).unwrap();
    host.write("pod.yaml", pod("local", "10.1.0.30", "", false)).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    assert_eq!(asks(&clients, host.cgroup()), CLUSTERS);
    let row = &rows(&host)[0];
    assert_eq!((row["state"].as_str(), row["fallbacks"].as_u64()), (Some("falling back"), Some(1)));
    assert_eq!((row["limit"].as_u64(), row["spills"].as_u64()), (Some(3), Some(0)));
    let backend = || {
        let answer = host.balancing(&["get", "endpoints", "lr/dns", "-o", "json"]).unwrap();
        let rows: Vec<Value> = serde_json::from_str(answer.succeeds()).unwrap();
        let mut rows = rows.into_iter().filter(|row| row["service"] == "lr/dns");
        let row = rows.next().unwrap();
        assert!(rows.next().is_none(), "the policy has one backend");
        assert_eq!((row["address"].as_str(), row["node"].as_str()), (Some(LOCAL), Some("n1")), "{row}");
        assert_eq!(row["pod"].as_str(), Some("kube-system/local"));
        [&row["state"], &row["standing"]].map(|it| it.as_str().unwrap_or("-").to_owned())
    };
    assert_eq!(backend(), ["not selected", "not ready"]);
    let text = host.balancing(&["get", "policies"]).unwrap();
    assert!(text.succeeds().lines().all(|line| line.len() <= 100), "{}", text.out);

    host.write("pod.yaml", pod("local", "10.1.0.30", "", true)).unwrap();
    testkit::wait::until(PATIENCE, "the redirect", || rows(&host)[0]["state"] == "redirecting");
    assert_eq!(backend(), ["in use", "selected"]);
    let asked: Vec<String> = (0..5).map(|_| asks(&clients, host.cgroup())).collect();
    assert_eq!(asked.iter().filter(|it| *it == LOCAL).count(), 3, "{asked:?}");
    let row = &rows(&host)[0];
    assert_eq!(row["spills"].as_u64(), Some(2));
    assert!(row["lastSecond"].as_u64().is_some_and(|taken| taken <= 3), "{row}");

    // A policy that goes leaves nothing.
    host.write("dns.yaml", dns(3).split("---").take(2).collect::<Vec<_>>().join("---")).unwrap();
    testkit::wait::until(PATIENCE, "the policy to be gone", || rows(&host).is_empty());
    assert_eq!(asks(&clients, host.cgroup()), CLUSTERS);
    let maps = host.balancing(&["get", "maps", "-o", "json"]).unwrap();
    let maps: Vec<Value> = serde_json::from_str(maps.succeeds()).unwrap();
    for name in ["limits", "policies", "exempt"] {
        let map = maps.iter().find(|it| it["name"] == name).unwrap();
        assert_eq!(map["used"].as_u64(), Some(0), "{map}");
    }
    agent.kill().unwrap();
}
