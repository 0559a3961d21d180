//! `balancing why`: every reason in words, with the agent and without.

#![allow(clippy::unwrap_used)]

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use balancing_tests::process::{Answer, Host};
use serde_json::{Value, json};
use testkit::{Cgroup, Namespace};

const MANIFESTS: &str = r#"
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: [10.96.0.0/16, "fd00:96::/112"]}
---
apiVersion: v1
kind: Node
metadata: {name: n1}
status: {addresses: [{type: InternalIP, address: 203.0.113.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
status: {addresses: [{type: InternalIP, address: 203.0.113.2}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: LoadBalancer
  clusterIPs: [10.96.0.10, "fd00:96::a"]
  ipFamilies: [IPv4, IPv6]
  internalTrafficPolicy: Local
  externalTrafficPolicy: Local
  loadBalancerSourceRanges: [10.2.0.0/16, 10.1.9.0/24, "fd00:2::/64"]
  ports: [{name: http, port: 80, nodePort: 30080}, {name: dns, port: 53, nodePort: 30053, protocol: UDP}]
status: {loadBalancer: {ingress: [{ip: 198.51.100.10}, {ip: "2001:db8::10"}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.1.0.1], nodeName: n1}, {addresses: [10.1.0.2], nodeName: n2}]
---
apiVersion: v1
kind: Service
metadata: {name: sticky, namespace: shop}
spec:
  clusterIP: 10.96.0.20
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 600}}
  ports: [{port: 80}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: sticky-1, namespace: shop, labels: {kubernetes.io/service-name: sticky}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.1.0.3]}, {addresses: [10.1.0.4]}]
---
apiVersion: v1
kind: Service
metadata: {name: theirs, namespace: shop, labels: {service.kubernetes.io/service-proxy-name: other}}
spec: {clusterIP: 10.96.0.30, ports: [{port: 80}]}
"#;

/// A process in a cgroup and a namespace; killed when dropped.
struct Sleeper(Child);

impl Sleeper {
    fn start(cgroup: &Cgroup, namespace: &Namespace) -> Self {
        let mut command = Command::new("sleep");
        command.arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        namespace.contain(&mut command).unwrap();
        Self(cgroup.spawn(&mut command).unwrap())
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn text(host: &Host, client: &str, destination: &str) -> String {
    host.balancing(&["why", client, destination]).unwrap().succeeds().to_owned()
}

#[track_caller]
fn json_of(host: &Host, client: &str, destination: &str) -> Value {
    let answer = host.balancing(&["why", client, destination, "-o", "json"]).unwrap();
    serde_json::from_str(answer.succeeds()).unwrap()
}

#[test]
fn every_reason_is_said_in_words() {
    let host = Host::new("whyall").unwrap();
    host.namespace().add_address("10.1.9.9".parse().unwrap()).unwrap();
    let stranger = Namespace::create("whyout").unwrap();
    stranger.add_address("10.3.0.1".parse().unwrap()).unwrap();
    host.write("all.yaml", MANIFESTS).unwrap();
    let excluded = host.cgroup().child("mesh").unwrap();
    let exclude = excluded.path().to_str().unwrap().to_owned();
    let inside = Sleeper::start(host.cgroup(), host.namespace());
    let outsider = Sleeper::start(host.cgroup(), &stranger);
    let meshed = Sleeper::start(&excluded, host.namespace());
    let mut agent = host.agent(&["--exclude-cgroup", &exclude]).unwrap();
    let (pid, outsider, meshed) = (inside.pid(), outsider.pid(), meshed.pid());

    // Clients are known a moment later.
    let begun = Instant::now();
    while json_of(&host, &pid, "198.51.100.10:80/tcp")["reason"] == "unknown-client" {
        assert!(begun.elapsed() < Duration::from_secs(20), "the client does not become known");
        std::thread::sleep(Duration::from_millis(50));
    }
    // One connection, so that there is something to keep.
    let _ = host.run(|| std::net::TcpStream::connect("10.96.0.20:80"));
    let kept = json_of(&host, &pid, "10.96.0.20:80/tcp")["kept"].as_str().unwrap().to_owned();

    for with_agent in [true, false] {
        if !with_agent {
            agent.kill().unwrap();
        }
        let or = |with: &'static str, without: &'static str| if with_agent { with } else { without };
        let cases: Vec<(&str, &str, &str, Vec<&str>)> = vec![
            (
                &pid,
                "10.96.0.10:81/tcp",
                "unknown-port",
                vec!["refused: ", "cluster IP of service shop/web, which has 53/UDP, 80/TCP"],
            ),
            (
                &pid,
                "10.96.0.99:80/tcp",
                "unused-address",
                vec!["unreachable: ", "10.96.0.0/16", "no service has it"],
            ),
            (&pid, "[fd00:96::99]:80/udp", "unused-address", vec!["unreachable: ", "fd00:96::/112"]),
            (
                &pid,
                "10.96.0.30:80/tcp",
                "foreign-service",
                vec!["passed: ", or("service shop/theirs", "a service"), "another proxy"],
            ),
            (
                &pid,
                "203.0.113.2:30080/tcp",
                "remote-node-port",
                vec![
                    "passed: ",
                    or("node n2", "another node"),
                    "that node chooses",
                    "shop/web:http (NodePort)",
                ],
            ),
            (&pid, "203.0.113.2:30081/tcp", "not-a-service", vec!["passed: ", "30081/TCP is no node port"]),
            (&pid, "198.51.100.10:81/tcp", "not-a-service", vec!["passed: ", "load balancer VIP"]),
            (&pid, "10.50.0.1:81/tcp", "not-a-service", vec!["passed: ", "no frontend"]),
            (
                &outsider,
                "198.51.100.10:80/tcp",
                "source-range",
                vec!["denied: ", "10.3.0.1 is in none", "10.1.9.0/24, 10.2.0.0/16", "EACCES"],
            ),
            (
                &outsider,
                "[2001:db8::10]:80/tcp",
                "unknown-client",
                vec!["passed: ", "not known", "fd00:2::/64"],
            ),
            (&pid, "198.51.100.10:80/tcp", "balanced", vec!["one of 2", "ranges", "10.1.9.9"]),
            (&pid, "10.96.0.10:80/tcp", "balanced", vec!["there is one backend"]),
            (&pid, "10.96.0.10:53/udp", "no-endpoints", vec!["refused: ", "no ready endpoint"]),
            (
                &pid,
                "10.96.0.20:80/tcp",
                "affinity",
                vec!["translated: ", "has had lately", &kept, "600 s again"],
            ),
            (&outsider, "10.96.0.20:80/tcp", "balanced", vec!["one of 2", "600 s", "this one has none"]),
            (&meshed, "10.96.0.10:80/tcp", "excluded", vec!["passed: ", &exclude, "left alone"]),
        ];
        for (client, destination, reason, words) in cases {
            let (json, text) = (json_of(&host, client, destination), text(&host, client, destination));
            assert_eq!(json["reason"], json!(reason), "{destination}: {json}");
            assert_eq!(json["agent"], json!(with_agent), "{destination}: {json}");
            assert_eq!(json["endpoints"].is_null(), !with_agent, "{destination}: {json}");
            for word in words {
                assert!(text.contains(word), "{word:?} is missing of {destination}:\n{text}");
            }
            assert_eq!(text.contains("The agent is not running"), !with_agent, "{text}");
        }

        // The same as fields.
        let json = json_of(&host, &pid, "10.96.0.10:81/tcp");
        assert_eq!((&json["owner"], &json["ports"]), (&json!("shop/web"), &json!(["53/UDP", "80/TCP"])));
        let json = json_of(&host, &pid, "10.96.0.99:80/tcp");
        assert_eq!(json["serviceCidr"], json!("10.96.0.0/16"));
        let json = json_of(&host, &outsider, "198.51.100.10:80/tcp");
        assert_eq!(json["sourceRanges"], json!(["10.1.9.0/24", "10.2.0.0/16"]));
        assert_eq!(json["clientAddress"], json!("10.3.0.1"));
        let json = json_of(&host, &pid, "10.96.0.20:80/tcp");
        assert_eq!(json["affinitySeconds"], json!(600));
        assert!(json["keptSeconds"].as_u64().is_some_and(|left| (400..=600).contains(&left)), "{json}");
        let json = json_of(&host, &meshed, "10.96.0.10:80/tcp");
        assert_eq!(json["client"]["excludedCgroup"], json!(exclude));

        // Standing is that for the traffic which is asked about: policies of cluster IPs are not those of VIPs.
        if with_agent {
            let selected = |destination: &str| {
                let json = json_of(&host, &pid, destination);
                let all = json["endpoints"].as_array().unwrap();
                all.iter().filter(|it| it["selected"] == json!(true)).count()
            };
            assert_eq!(selected("10.96.0.10:80/tcp"), 1);
            assert_eq!(selected("198.51.100.10:80/tcp"), 2);
            assert_eq!(selected("203.0.113.1:30080/tcp"), 2);
        }

        // All frontends of a service port, node ports by an address that has them.
        let all = text(&host, &pid, "svc/shop/web:http");
        for words in
            ["10.96.0.10:80/TCP", "[fd00:96::a]:80/TCP", "198.51.100.10:80/TCP", "203.0.113.1:30080/TCP"]
        {
            assert!(all.contains(words), "{words} is missing:\n{all}");
        }
        assert!(!all.contains("0.0.0.0"), "{all}");
    }
}

#[test]
fn a_refused_port_is_an_event_of_the_service_whose_address_it_is() {
    let host = Host::new("whyevent").unwrap();
    host.write("all.yaml", MANIFESTS).unwrap();
    let _agent = host.agent(&[]).unwrap();
    let error = host.run(|| std::net::TcpStream::connect("10.96.0.10:81")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let begun = Instant::now();
    let event = loop {
        let answer = host.balancing(&["events", "--service", "shop/web", "-o", "json"]).unwrap();
        if let Some(line) = answer.succeeds().lines().next() {
            break serde_json::from_str::<Value>(line).unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "no event comes");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!((&event["reason"], &event["verdict"]), (&json!("unknown-port"), &json!("refused")), "{event}");
    assert_eq!(event["service"], json!({"namespace": "shop", "name": "web", "port": ""}));
    assert_eq!(host.balancing(&["events", "--verdict", "denied"]).unwrap().succeeds(), "");
}

#[test]
fn r27_status_says_that_the_api_server_keeps_its_endpoints() {
    let host = Host::new("whyheld").unwrap();
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: kubernetes}\nspec: {clusterIP: 10.96.0.1, ports: [{port: 443}]}\n";
    let slice = |endpoints: &str| {
        format!(
            "{service}---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: kubernetes, labels: \
             {{kubernetes.io/service-name: kubernetes}}}}\naddressType: IPv4\nports: [{{port: 6443}}]\nendpoints: \
             {endpoints}\n"
        )
    };
    host.write("api.yaml", slice("[{addresses: [10.1.0.1]}]")).unwrap();
    let agent = host.agent(&[]).unwrap();
    assert_eq!(agent.status().unwrap().problems, Vec::<String>::new());
    host.write("api.yaml", slice("[]")).unwrap();
    let words =
        "Service default/kubernetes: an update that would leave it without an endpoint is not applied";
    let is_held = |problems: &[String]| problems.iter().any(|it| it.starts_with(words));
    agent.wait_status("what is held", |status| is_held(&status.problems)).unwrap();
    host.write("api.yaml", slice("[{addresses: [10.1.0.2]}]")).unwrap();
    agent.wait_status("no problem", |status| status.problems.is_empty()).unwrap();
}

const UID: &str = "01234567-89ab-cdef-0123-456789abcdee";

#[test]
fn a_pod_of_this_node_can_be_asked_for_by_its_name() {
    let host = Host::new("whypod").unwrap();
    host.namespace().add_address("10.1.9.9".parse().unwrap()).unwrap();
    let pod = |name: &str, uid: &str, node: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, uid: {uid}}}\n\
             spec: {{nodeName: {node}, containers: []}}\nstatus: {{podIPs: [{{ip: 10.1.9.9}}]}}\n"
        )
    };
    let pods = [pod("web-1", UID, "n1"), pod("ghost", &UID.replace('e', "d"), "n1"), pod("far", "x", "n2")];
    host.write("all.yaml", format!("{MANIFESTS}---\n{}", pods.join("---\n"))).unwrap();
    let cgroup = host.cgroup().child(&format!("pod{UID}")).unwrap();
    let _inside = Sleeper::start(&cgroup, host.namespace());
    let mut agent = host.agent(&[]).unwrap();

    // Its address is that of its network namespace, by which source ranges are.
    let vip = "198.51.100.10:80/tcp";
    let begun = Instant::now();
    while json_of(&host, "pod/shop/web-1", vip)["reason"] == "unknown-client" {
        assert!(begun.elapsed() < Duration::from_secs(20), "the client does not become known");
        std::thread::sleep(Duration::from_millis(50));
    }
    let json = json_of(&host, "pod/shop/web-1", vip);
    assert_eq!((&json["reason"], &json["clientAddress"]), (&json!("balanced"), &json!("10.1.9.9")));
    let client = &json["client"];
    assert_eq!((&client["served"], &client["cgroup"]), (&json!(true), &json!(cgroup.path())));
    let text = text(&host, "pod/shop/web-1", vip);
    assert!(text.starts_with("pod shop/web-1 -> 198.51.100.10:80/TCP\n"), "{text}");
    assert!(
        text.contains(&format!("\ncgroup    {}\n", cgroup.path().display())),
        "a pipe has all of it: {text}"
    );
    let mut narrow = host.command(&["why", "pod/shop/web-1", vip]);
    let narrow = Answer::of(narrow.env("COLUMNS", "60")).unwrap();
    assert!(narrow.succeeds().lines().all(|line| line.chars().count() <= 60), "{narrow:?}");

    let fails = |client: &str, words: &[&str]| {
        host.balancing(&["why", client, vip]).unwrap().fails(1, words);
    };
    fails("pod/shop/nobody", &["no pod shop/nobody", "there is none in its manifests /"]);
    fails("pod/shop/far", &["pod shop/far is on node n2", "ask there"]);
    fails("pod/shop/ghost", &["pod shop/ghost", "no cgroup", "does not run"]);
    host.balancing(&["why", "pod/web-1", vip]).unwrap().fails(2, &["give pod/NAMESPACE/NAME"]);
    agent.kill().unwrap();
    fails("pod/shop/web-1", &["the agent is not running", "process id"]);
}
