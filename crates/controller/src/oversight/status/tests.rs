use model::{
    Change, Kind, Node, NodeAnnotation, Object, ObjectName, Service, ServicePort, ServiceType, View,
};

use super::*;
use crate::oversight::sample::*;

fn cluster(objects: impl IntoIterator<Item = Object>) -> Cluster {
    let mut cluster = Cluster::new(View::default());
    cluster.apply_all(objects.into_iter().map(Change::Upsert));
    cluster
}

fn standing(policy: &Policy, cluster: &Cluster) -> Standing {
    Standing::of(policy, cluster, &Claims::default())
}

fn finding(standing: &Standing, kind: &str) -> (bool, &'static str, String) {
    let finding = standing.findings.iter().find(|it| it.kind == kind).unwrap();
    (finding.is_so, finding.reason, finding.message.clone())
}

fn proxied(name: &str) -> Node {
    let proxy = model::Annotation { value: "192.0.2.1".into(), is_ours: false };
    Node {
        name: name.into(),
        internal_ips: vec![[10, 1, 0, 1].into()],
        annotations: [(NodeAnnotation::NodeProxyIpv4, proxy)].into(),
        ..Node::default()
    }
}

fn moded(mode: RedirectMode) -> Policy {
    let PolicyBackends::Pods(pods, _) = policy("p").backends else { panic!() };
    Policy { backends: PolicyBackends::Pods(pods, mode), ..policy("p") }
}

#[test]
fn pods_are_counted_wherever_they_are() {
    let policy = policy("p");
    let mut objects: Vec<Object> = vec![
        pod(1).into(),
        Pod { node: Some("n2".into()), ..pod(2) }.into(),
        Pod { ready: false, ..pod(3) }.into(),
        Pod { terminating: true, ..pod(4) }.into(),
        Pod { finished: true, ..pod(5) }.into(),
        Pod { labels: map(&[("app", "api")]), ..pod(6) }.into(),
    ];
    let PolicyBackends::Pods(pods, _) = policy.backends.clone() else { panic!() };
    let local = Policy { backends: PolicyBackends::Local(pods), ..policy.clone() };
    objects.extend([policy.clone().into(), local.clone().into()]);
    let cluster = cluster(objects);
    for policy in [&policy, &local] {
        let standing = standing(policy, &cluster);
        assert_eq!(standing.backends, Some((4, 2)));
        let ready = "2 of 4 matching pods are ready".into();
        assert_eq!(finding(&standing, "BackendsReady"), (true, "PodsReady", ready));
        assert_eq!(standing.frontend.as_deref(), Some("169.254.0.90"));
        assert_eq!((finding(&standing, "Accepted").0, finding(&standing, "Conflict").0), (true, false));
    }
    assert_eq!(
        (standing(&policy, &cluster).mode, standing(&local, &cluster).mode),
        (Some("podEndpoint"), None)
    );
}

#[test]
fn it_is_said_why_there_are_no_backends() {
    let policy = policy("p");
    let none = standing(&policy, &cluster([]));
    assert_eq!(finding(&none, "BackendsReady").1, "NoPodMatches");
    let unready = standing(&policy, &cluster([Pod { ready: false, ..pod(1) }.into()]));
    assert_eq!(
        finding(&unready, "BackendsReady"),
        (false, "NoPodReady", "0 of 1 matching pods are ready".into())
    );
}

#[test]
fn p8_nodes_that_are_skipped_are_named() {
    let on = |node: &str, number| Object::from(Pod { node: Some(node.into()), ..pod(number) });
    let proxy = moded(RedirectMode::NodeProxy);
    let some = cluster([
        proxied("n1").into(),
        Node { name: "n2".into(), ..Node::default() }.into(),
        on("n1", 1),
        on("n2", 2),
    ]);
    let (is_so, reason, message) = finding(&standing(&proxy, &some), "BackendsReady");
    assert_eq!((is_so, reason), (true, "PodsReady"));
    assert!(
        message.ends_with("nodes without annotation balancing.elf.io/nodeProxyIpv4 are skipped: n2"),
        "{message}"
    );
    let all = cluster([on("n2", 2)]);
    assert_eq!(finding(&standing(&proxy, &all), "BackendsReady").1, "NodesSkipped");
    let host = standing(&moded(RedirectMode::HostPort), &some);
    assert!(finding(&host, "BackendsReady").2.ends_with("without InternalIP of IPv4 are skipped: n2"));
    let pods = standing(&moded(RedirectMode::PodEndpoint), &some);
    assert_eq!(finding(&pods, "BackendsReady").2, "2 of 2 matching pods are ready");
}

fn service(cluster_ips: &[[u8; 4]], port: u16) -> Service {
    Service {
        name: ObjectName::new("shop", "web"),
        uid: String::new(),
        created: None,
        kind: ServiceType::ClusterIp,
        proxy_name: None,
        cluster_ips: cluster_ips.iter().map(|ip| (*ip).into()).collect(),
        external_ips: vec![],
        load_balancer_ips: vec![],
        source_ranges: vec![],
        ports: vec![ServicePort {
            name: "p".into(),
            protocol: model::Protocol::Tcp,
            port,
            node_port: 0,
            target: model::TargetPort::Number(80),
        }],
        selector: map(&[]),
        internal_policy: Default::default(),
        external_policy: Default::default(),
        affinity_seconds: None,
        publish_not_ready: false,
        distribution: None,
        health_check_node_port: 0,
    }
}

#[test]
fn p3_a_service_that_is_not_there_is_no_mistake() {
    let ports = vec![model::FrontendPort { name: "p".into(), protocol: model::Protocol::Tcp, port: 80 }];
    let frontend = PolicyFrontend::Service { service: ObjectName::new("shop", "web"), ports };
    let policy = Policy { frontend, ..policy("p") };
    let reason = |cluster: Cluster| {
        let standing = standing(&policy, &cluster);
        assert_eq!(standing.frontend.as_deref(), Some("shop/web"));
        let (is_so, reason, _) = finding(&standing, "Accepted");
        assert!(is_so, "{reason}");
        reason
    };
    assert_eq!(reason(cluster([])), "ServiceNotFound");
    assert_eq!(reason(cluster([service(&[], 80).into()])), "ServiceWithoutClusterIP");
    assert_eq!(reason(cluster([service(&[[10, 96, 0, 1]], 81).into()])), "NoPortMatches");
    assert_eq!(reason(cluster([service(&[[10, 96, 0, 1]], 80).into()])), "Accepted");
}

#[test]
fn p1_a_conflict_names_who_has_the_frontend() {
    let (older, newer) = (policy("older"), Policy { created: Some(9), ..policy("newer") });
    let cluster = cluster([]);
    let mut claims = Claims::default();
    for it in [&older, &newer] {
        claims.set(&it.id(), Some((it, &it.redirects(None))));
    }
    let lost = finding(&Standing::of(&newer, &cluster, &claims), "Conflict");
    let message =
        "169.254.0.90:80/TCP is of BalancingPolicy older, which is older; it is taken over when that goes";
    assert_eq!(lost, (true, "FrontendTaken", message.into()));
    assert!(!finding(&Standing::of(&older, &cluster, &claims), "Conflict").0);
    assert_eq!(older.id().kind, Kind::BalancingPolicy);
}

#[test]
fn a_condition_that_stays_keeps_its_time_and_others_conditions_stay() {
    let at = |second: i64| Timestamp::from_second(second).unwrap();
    let unready = standing(&policy("p"), &cluster([]));
    let mut foreign = unready.status(&PolicyStatus::default(), Some(1), at(5));
    foreign.conditions[0].type_ = "Somebody".into();
    let first = unready.status(
        &PolicyStatus { conditions: vec![foreign.conditions[0].clone()], ..PolicyStatus::default() },
        Some(1),
        at(10),
    );
    assert_eq!(first.conditions.len(), 4);
    assert_eq!(unready.status(&first, Some(1), at(20)), first, "nothing has changed");
    let ready = standing(&policy("p"), &cluster([pod(1).into()])).status(&first, Some(2), at(20));
    let time = |status: &PolicyStatus, kind: &str| {
        status.conditions.iter().find(|it| it.type_ == kind).unwrap().last_transition_time.0.as_second()
    };
    assert_eq!((time(&ready, "BackendsReady"), time(&ready, "Accepted")), (20, 10));
    assert_eq!(
        (ready.observed_generation, ready.backends, ready.ready_backends),
        (Some(2), Some(1), Some(1))
    );
    let broken = Standing::invalid("spec: is bad").status(&ready, Some(3), at(30));
    assert_eq!((time(&broken, "Accepted"), broken.ready_backends), (30, Some(1)), "it stays in force");
    assert_eq!(broken.mode.as_deref(), Some("podEndpoint"));
}
