//! `balancing get` and its filters, and the forms of what commands print.

#![allow(clippy::unwrap_used)]

use balancing_tests::process::{Answer, Host, web};
use serde_json::{Value, json};

const NODES: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/zone: a}}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}, {type: InternalIP, address: '2001:db8::1'}]}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
status: {addresses: [{type: InternalIP, address: 192.0.2.2}, {type: ExternalIP, address: 203.0.113.2}]}
";

fn answer(host: &Host, line: &str) -> Answer {
    host.balancing(&line.split(' ').collect::<Vec<_>>()).unwrap()
}

/// These fields of each row.
#[track_caller]
fn rows(host: &Host, line: &str, fields: &[&str]) -> Vec<String> {
    let answer = answer(host, &format!("{line} -o json"));
    let rows: Vec<Value> = serde_json::from_str(answer.succeeds()).unwrap();
    let field = |row: &Value, name: &str| match &row[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    rows.iter().map(|row| fields.iter().map(|name| field(row, name)).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn rows_are_chosen_by_name_namespace_protocol_family_and_state() {
    let host = Host::new("filters").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1, 2])).unwrap();
    host.write("empty.yaml", web::manifest("empty", 11, &[])).unwrap();
    host.write("shop.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {clusterIP: 10.96.0.30, ports: [{port: 443}]}\n").unwrap();
    let mut agent = host.agent(&[]).unwrap();
    for with_agent in [true, false] {
        if !with_agent {
            agent.kill().unwrap();
        }
        let frontends = |line: &str| rows(&host, line, &["namespace", "service", "frontend"]);
        assert_eq!(frontends("get services").len(), 9);
        assert_eq!(frontends("get services -A").len(), 9);
        assert_eq!(frontends("get svc -n shop"), ["shop web 10.96.0.30:443"]);
        assert_eq!(frontends("get services shop/web"), ["shop web 10.96.0.30:443"]);
        assert_eq!(frontends("get services web").len(), 5);
        assert_eq!(frontends("get services web --family 6 --protocol UDP"), ["default web [fd00:96::a]:53"]);
        assert_eq!(
            frontends("get services -n default web empty --family 4 --protocol tcp"),
            ["default empty 10.96.0.11:80", "default web 10.96.0.10:80"]
        );
        let addresses = |line: &str| rows(&host, line, &["address", "state"]);
        assert_eq!(
            addresses("get endpoints web --protocol tcp --family 4 --state in-use"),
            ["10.1.0.1:8080 in use", "10.1.0.2:8080 in use"]
        );
        assert_eq!(rows(&host, "get maps names", &["name", "used"]), ["names 9"]);

        // Nothing, with what to do.
        for (line, words) in [
            ("get services -n nowhere", "no services in namespace nowhere; there are 3 in others: -A\n"),
            ("get endpoints -n shop", "no endpoints in namespace shop; there are 8 in others: -A\n"),
            (
                "get endpoints --state last-resort",
                "no endpoints fit --state; without, there are 8 endpoints\n",
            ),
        ] {
            let answer = answer(&host, line);
            assert_eq!((answer.succeeds(), answer.err.as_str()), ("", words), "{line}");
            assert_eq!(rows(&host, line, &[]), Vec::<String>::new(), "{line}");
        }
        answer(&host, "get services wbe").fails(1, &["no service wbe; `balancing get services` lists"]);
        answer(&host, "get services -n shop empty")
            .fails(1, &["no service empty in namespace shop; there is one in default"]);
        answer(&host, "get services shop/empty")
            .fails(1, &["no service shop/empty; there is a empty in default"]);
        // What is there is listed all the same.
        let some = answer(&host, "get services shop/web none -o json");
        some.fails(1, &["no service none"]);
        assert_eq!(serde_json::from_str::<Vec<Value>>(&some.out).unwrap().len(), 1, "{some:?}");

        answer(&host, "get maps --protocol tcp").fails(2, &["--protocol makes no sense for maps"]);
        answer(&host, "get services --state in-use").fails(2, &["--state makes no sense for services"]);
        answer(&host, "get services --family 5").fails(2, &["--family"]);
        answer(&host, "get services -n a -A").fails(2, &["--all-namespaces"]);
        answer(&host, "get things").fails(2, &["things"]);
    }
}

#[test]
fn nodes_are_what_the_agent_knows() {
    let host = Host::new("nodes").unwrap();
    host.write("nodes.yaml", NODES).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    let fields = ["name", "here", "zone", "internalIps", "externalIps"];
    let n1 = "n1 true a [\"192.0.2.1\",\"2001:db8::1\"] []";
    assert_eq!(rows(&host, "get nodes", &fields), [n1, "n2 false null [\"192.0.2.2\"] [\"203.0.113.2\"]"]);
    assert_eq!(rows(&host, "get node n1", &fields), [n1]);
    assert_eq!(rows(&host, "get nodes --family 6", &fields), [n1]);
    let table = answer(&host, "get nodes");
    assert_eq!(
        table.succeeds(),
        "NODE  THIS  ZONE  INTERNAL IPS\nn1    yes   a     192.0.2.1 2001:db8::1\nn2    -     -     192.0.2.2\n"
    );
    answer(&host, "get nodes -n x").fails(2, &["--namespace makes no sense for nodes"]);
    agent.kill().unwrap();
    answer(&host, "get nodes").fails(1, &["the agent is not running"]);
}

const STICKY: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: sticky, namespace: shop}
spec:
  type: LoadBalancer
  clusterIPs: [10.96.0.20, "fd00:96::14"]
  ipFamilies: [IPv4, IPv6]
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 600}}
  loadBalancerSourceRanges: [10.2.0.0/16, 10.1.9.0/24]
  ports: [{name: http, port: 80, nodePort: 30080}]
status: {loadBalancer: {ingress: [{ip: 198.51.100.20}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: sticky-1, namespace: shop, labels: {kubernetes.io/service-name: sticky}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.1.0.3], nodeName: n2, targetRef: {kind: Pod, name: sticky-3, namespace: shop}}]
---
apiVersion: v1
kind: Service
metadata: {name: plain, namespace: shop}
spec: {clusterIP: 10.96.0.21, ports: [{port: 80}]}
"#;

#[test]
fn what_clients_keep_is_listed_and_node_ports_are_on_every_node() {
    let host = Host::new("affinity").unwrap();
    host.namespace().add_address("10.1.9.9".parse().unwrap()).unwrap();
    host.write("sticky.yaml", STICKY).unwrap();
    // A namespace that no process is in is found by nobody.
    let mut command = std::process::Command::new("sleep");
    host.namespace().contain(command.arg("1000")).unwrap();
    let mut inside = command.spawn().unwrap();
    let mut agent = host.agent(&[]).unwrap();
    let none = answer(&host, "get affinity").err;
    assert!(none.starts_with("no affinities: only services with sessionAffinity ClientIP"), "{none}");
    // Nobody listens there; to be sent there is enough.
    let _ = host.run(|| std::net::TcpStream::connect("10.96.0.20:80"));
    for with_agent in [true, false] {
        if !with_agent {
            agent.kill().unwrap();
        }
        let pod = if with_agent { "shop/sticky-3 n2" } else { "null null" };
        let fields =
            ["namespace", "service", "port", "protocol", "client", "host", "backend", "state", "pod", "node"];
        let kept = [format!("shop sticky http TCP 10.1.9.9 false 10.1.0.3:8080 in use {pod}")];
        assert_eq!(rows(&host, "get affinity", &fields), kept);
        for line in [
            "get affinity sticky",
            "get affinities shop/sticky",
            "get affinity -n shop --family 4 --protocol tcp --state in-use",
        ] {
            assert_eq!(rows(&host, line, &fields), kept, "{line}");
        }
        for line in ["-n other", "--family 6", "--protocol udp", "--state stale"] {
            assert_eq!(rows(&host, &format!("get affinity {line}"), &fields), Vec::<String>::new(), "{line}");
        }
        answer(&host, "get affinity plain").fails(1, &["no affinity plain"]);
        let times = rows(&host, "get affinity", &["ageSeconds", "expiresInSeconds"]);
        let times: Vec<u64> = times[0].split(' ').map(|it| it.parse().unwrap()).collect();
        assert!(times[0] < 200 && (590..=600).contains(&(times[0] + times[1])), "{times:?}");
        let [table, wide, yaml] = ["table", "wide", "yaml"]
            .map(|form| answer(&host, &format!("get affinity -o {form}")).succeeds().to_owned());
        for text in [&table, &wide] {
            assert_eq!(text.lines().count(), 2, "{text}");
            assert!(text.contains("10.1.9.9") && text.contains("10.1.0.3:8080"), "{text}");
        }
        assert!(table.lines().all(|line| line.len() <= 100), "{table}");
        assert_eq!(wide.contains("shop/sticky-3"), with_agent, "{wide}");
        assert_eq!(serde_saphyr::from_str::<Vec<Value>>(&yaml).unwrap()[0]["client"], json!("10.1.9.9"));

        let services = rows(&host, "get services", &["frontend", "mode", "affinitySeconds", "sourceRanges"]);
        assert_eq!(
            services,
            [
                "10.96.0.21:80 ClusterIP null []",
                "*:30080 NodePort 600 []",
                "10.96.0.20:80 ClusterIP 600 []",
                r#"198.51.100.20:80 LoadBalancer 600 ["10.1.9.0/24","10.2.0.0/16"]"#,
                "[*]:30080 NodePort 600 []",
                "[fd00:96::14]:80 ClusterIP 600 []",
            ]
        );
        let wide = answer(&host, "get services -o wide").succeeds().to_owned();
        assert!(wide.contains("600 s") && wide.contains("10.1.9.0/24,10.2.0.0/16"), "{wide}");

        let maps = rows(&host, "get maps", &["name", "used"]);
        for line in ["sources 2", "affinity 1", "excluded 0", "frontends4 4", "frontends6 2"] {
            assert!(maps.iter().any(|it| it == line), "{line} is missing: {maps:?}");
        }
        for name in ["addresses4", "addresses6", "clients"] {
            let used = maps.iter().find_map(|it| it.strip_prefix(name)).unwrap();
            assert!(used.trim().parse::<u32>().is_ok(), "{name}: {maps:?}");
        }
    }
    inside.kill().unwrap();
    inside.wait().unwrap();
}

/// What is said of its endpoint is the longest that there is to be said.
const LOCAL: &str = "
apiVersion: v1
kind: Service
metadata: {name: local, namespace: default}
spec: {clusterIP: 10.96.0.40, internalTrafficPolicy: Local, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: local-1, namespace: default, labels: {kubernetes.io/service-name: local}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.1.0.40], nodeName: n2}]
";

#[test]
fn every_listing_has_every_form() {
    let host = Host::new("forms").unwrap();
    host.write("local.yaml", LOCAL).unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    host.write("nodes.yaml", NODES).unwrap();
    let _agent = host.agent(&["--events", "all"]).unwrap();
    let _servers = web::serve(&host, &[1]).unwrap();
    web::ask(&host, 10).unwrap();
    wait_for_event(&host);
    for verb in [
        "get services",
        "get endpoints",
        "get nodes",
        "get maps",
        "status",
        "why host 10.96.0.10:80/tcp",
        "why host svc/default/web",
        "doctor",
        "agent --print-config",
    ] {
        let [plain, table, wide, json, yaml] = ["", " -o table", " -o wide", " -o json", " -o yaml"]
            .map(|form| answer(&host, &format!("{verb}{form}")).succeeds().to_owned());
        assert!(!plain.is_empty() && !table.is_empty() && !wide.is_empty(), "{verb}");
        let from_json: Value = serde_json::from_str(&json).unwrap();
        let from_yaml: Value = serde_saphyr::from_str(&yaml).unwrap();
        assert_eq!(kinds(&from_json), kinds(&from_yaml), "{verb}");
        for line in
            plain.lines().chain(table.lines()).filter(|_| !matches!(verb, "doctor" | "agent --print-config"))
        {
            let width = line.chars().count();
            // Paths of this test are long.
            assert!(width <= 100 || line.contains("/tmp/") || line.contains("/sys/"), "{verb}: {line}");
        }
    }
    let endpoints = answer(&host, "get endpoints local");
    assert!(endpoints.succeeds().contains("  remote, policy is Local  "), "{endpoints:?}");
    let json = answer(&host, "events -o json");
    let yaml = answer(&host, "events -o yaml");
    let lines: Vec<Value> = json.succeeds().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml.succeeds()).unwrap();
    assert_eq!(lines, documents);
    assert!(!lines.is_empty());
    let wide = answer(&host, "events -o wide");
    assert!(wide.succeeds().contains("pod default/web-1  on n2  uid 0"), "{wide:?}");
    assert_eq!(answer(&host, "events").out, answer(&host, "events -o text").out);
    let none = answer(&host, "events -n elsewhere");
    assert_eq!(none.succeeds(), "");
    assert!(none.err.starts_with("no events: ") && none.err.contains("--level all"), "{none:?}");
    assert_eq!(answer(&host, "events -n default -o json").succeeds(), json.out);
}

/// Waits for an event: they are read every 20 ms.
fn wait_for_event(host: &Host) {
    for _ in 0..500 {
        if !answer(host, "events").succeeds().is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("no event comes");
}

/// What a value has, without what changes from moment to moment.
fn kinds(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), kinds(value))).collect(),
        Value::Array(values) => values.iter().map(kinds).collect(),
        Value::Number(_) => json!(0),
        other => other.clone(),
    }
}
