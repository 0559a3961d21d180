//! A feed that gives whatever it likes proves nothing.

use model::{Kind, ObjectId, ObjectName};

use super::*;

const ALL: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web, creationTimestamp: "2026-01-01T00:00:00Z", uid: u}
spec: {clusterIP: 10.96.0.10, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.1.0.1]}]
---
apiVersion: v1
kind: Node
metadata: {name: n1, creationTimestamp: "2026-01-01T00:00:00Z", uid: m}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, uid: p}
spec: {nodeName: n1, containers: []}
---
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: [10.96.0.0/16]}
---
apiVersion: balancing.elf.io/v1beta1
kind: LocalRedirectPolicy
metadata: {name: web, creationTimestamp: "2026-01-01T00:00:00Z", uid: l}
spec:
  frontend: {serviceMatcher: {serviceName: web, namespace: default}}
  backend: {endpointSelector: {matchLabels: {app: web}}, toPorts: [{port: "8080", protocol: TCP}]}
---
apiVersion: balancing.elf.io/v1beta1
kind: BalancingPolicy
metadata: {name: web, creationTimestamp: "2026-01-01T00:00:00Z", uid: b}
spec:
  frontend: {addressMatcher: {ip: 169.254.0.90, toPorts: [{port: "80", protocol: TCP}]}}
  backend: {addressEndpoint: {addresses: [10.1.0.9], toPorts: [{port: "8080", protocol: TCP}]}}
"#;

fn id(kind: Kind, namespace: &str, name: &str) -> ObjectId {
    ObjectId { kind, name: ObjectName::new(namespace, name) }
}

fn sorted(mut changes: Vec<Change>) -> Vec<String> {
    changes.sort_by_key(|change| match change {
        Change::Upsert(object) => object.id(),
        Change::Delete(id) => id.clone(),
    });
    changes.iter().map(|change| format!("{change:?}")).collect()
}

#[test]
fn an_api_server_gives_what_the_text_says() {
    let mut feed = ApiServer::new(Some("n1")).unwrap();
    assert_eq!(sorted(feed.apply(ALL).unwrap()), sorted(Direct.apply(ALL).unwrap()));
    let later = ALL.replace("8080", "9090").replace("port: 80}", "port: 81}");
    let given = feed.apply(&later).unwrap();
    // Each is written again, and looks to the source like something new.
    assert_eq!(sorted(given), sorted(Direct.apply(&later).unwrap()));
    assert!(feed.sync().unwrap().is_empty());
    let names = [
        "Service default/web",
        "EndpointSlice default/web-1",
        "Node n1",
        "LocalRedirectPolicy web",
        "BalancingPolicy web",
    ]
    .map(str::to_owned);
    assert_eq!(sorted(feed.delete(&names).unwrap()), sorted(Direct.delete(&names).unwrap()));
    feed.delete(&names).expect_err("they are gone");
    feed.restart().unwrap();
    assert_eq!(sorted(feed.apply(ALL).unwrap()), sorted(Direct.apply(ALL).unwrap()));
}

#[test]
fn an_api_server_gives_only_what_this_node_needs() {
    let mut feed = ApiServer::new(Some("n2")).unwrap();
    let given = feed.apply(ALL).unwrap();
    assert_eq!(given.len(), 6);
    assert!(!sorted(given).iter().any(|change| change.contains("Pod(")));
    // A label comes, and the slice is out of sight.
    let headless = "kubernetes.io/service-name: web, service.kubernetes.io/headless: \"\"";
    let later = ALL.replace("kubernetes.io/service-name: web", headless);
    let given = feed.apply(&later).unwrap();
    assert!(given.contains(&Change::Delete(id(Kind::EndpointSlice, "default", "web-1"))), "{given:?}");
}

#[test]
fn p11_outside_of_the_cluster_an_api_server_gives_nothing_that_is_local() {
    let mut feed = ApiServer::new(None).unwrap();
    let given = sorted(feed.apply(ALL).unwrap());
    assert_eq!(given.len(), 5);
    assert!(!given.iter().any(|change| change.contains("Pod(") || change.contains("Local(")), "{given:?}");
}

#[test]
fn an_object_that_the_source_does_not_understand_is_a_failure() {
    let mut feed = ApiServer::new(Some("n1")).unwrap();
    feed.apply(ALL).unwrap();
    feed.put(serde_json::json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "bad"}, "spec": {"clusterIP": "many"},
    }))
    .unwrap();
    let error = feed.apply(ALL).expect_err("it can't be understood");
    assert!(format!("{error:#}").contains("default/bad"), "{error:#}");
}
