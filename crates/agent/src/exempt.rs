//! P7: who is not redirected by which policy: its own backends, since a loop leads nowhere.
//!
//! A pod is known by its network namespace, one on the host's network by its cgroup: of the host's namespace there are others
//! whose connections are to be redirected.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use abi::policy::ExemptKey;
use model::{Cluster, ObjectId, Pod};
use plan::policy_number;

/// What tells pods from one another: cookies of network namespaces by address, without the host's; ids of cgroups by UID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) namespaces: BTreeMap<IpAddr, u64>,
    pub(crate) cgroups: BTreeMap<String, u64>,
}

/// Who is exempt from one policy, and which of its own backends are not known, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exempt {
    pub(crate) keys: BTreeSet<ExemptKey>,
    pub(crate) unknown: BTreeSet<String>,
}

/// Pods of this node that a policy selects, ready or not: whoever waits to become its backend needs the real thing as well.
fn own<'a>(cluster: &'a Cluster, policy: &ObjectId) -> impl Iterator<Item = &'a Pod> {
    let policy = cluster.policy(policy).filter(|policy| cluster.absence(policy).is_none());
    let selector = policy.and_then(|policy| policy.pods()).map(|pods| &pods.selector);
    let pods = cluster.own_pods().filter(move |pod| selector.is_some_and(|it| it.matches(&pod.labels)));
    pods.filter(|pod| !pod.finished && !pod.ips.is_empty())
}

/// Who is exempt from `policy`.
pub(crate) fn exempt(cluster: &Cluster, policy: &ObjectId, places: &Places) -> Exempt {
    let number = policy_number(policy);
    let mut exempt = Exempt::default();
    for pod in own(cluster, policy) {
        let client = if pod.host_network {
            places.cgroups.get(&pod.uid).map(|id| id | ExemptKey::CGROUP)
        } else {
            pod.ips.iter().find_map(|ip| places.namespaces.get(ip)).copied()
        };
        match client {
            Some(client) => drop(exempt.keys.insert(ExemptKey::new(number, client))),
            None => drop(exempt.unknown.insert(pod.name.to_string())),
        }
    }
    exempt
}

/// UIDs of the pods on the host's network that some policy selects.
pub(crate) fn on_host_network(cluster: &Cluster) -> BTreeSet<String> {
    let ids: Vec<ObjectId> = cluster.policies().map(model::Policy::id).collect();
    let pods = ids.iter().flat_map(|id| own(cluster, id)).filter(|pod| pod.host_network);
    pods.map(|pod| pod.uid.clone()).collect()
}

#[cfg(test)]
mod tests {
    use abi::policy::whole;
    use model::{
        BackendPort, Change, FrontendPort, Object, ObjectName, PodBackends, Policy, PolicyBackends,
        PolicyFrontend, Protocol, RedirectMode, Selector, TargetPort, View,
    };

    use super::*;

    fn pod(name: &str, node: &str, ip: &str, host_network: bool) -> Pod {
        Pod {
            name: ObjectName::new("kube-system", name),
            labels: [("app".to_owned(), "dns".to_owned())].into(),
            node: Some(node.into()),
            uid: format!("uid-{name}"),
            host_network,
            ips: vec![ip.parse().unwrap()],
            ready: false,
            finished: false,
            terminating: false,
            ports: vec![],
            containers: vec![],
            socket_lb: None,
        }
    }

    fn policy(app: &str, local: bool) -> Policy {
        let selector =
            Selector { labels: [("app".to_owned(), app.to_owned())].into(), ..Selector::default() };
        let port = BackendPort { name: "".into(), protocol: Protocol::Udp, target: TargetPort::Number(53) };
        let pods = PodBackends { selector, ports: vec![port] };
        Policy {
            name: "dns".into(),
            uid: String::new(),
            created: None,
            frontend: PolicyFrontend::Address {
                ip: "169.254.20.10".parse().unwrap(),
                ports: vec![FrontendPort { name: "".into(), protocol: Protocol::Udp, port: 53 }],
            },
            backends: if local {
                PolicyBackends::Local(pods)
            } else {
                PolicyBackends::Pods(pods, RedirectMode::HostPort)
            },
            nodes: None,
            outside: true,
            limit: None,
        }
    }

    #[test]
    fn p7_own_backends_are_known_by_namespace_and_on_the_hosts_network_by_cgroup() {
        let places = Places {
            namespaces: [("10.0.0.1".parse().unwrap(), 71), ("10.0.0.9".parse().unwrap(), 79)].into(),
            cgroups: [("uid-host".to_owned(), 500)].into(),
        };
        for local in [true, false] {
            let policy = policy("dns", local);
            let mut cluster = Cluster::new(View { node: "n1".into(), ..View::default() });
            let finished = Pod { finished: true, ..pod("finished", "n1", "10.0.0.9", false) };
            let objects: [Object; 6] = [
                policy.clone().into(),
                pod("own", "n1", "10.0.0.1", false).into(),
                pod("elsewhere", "n2", "10.0.0.9", false).into(),
                pod("host", "n1", "192.0.2.1", true).into(),
                pod("new", "n1", "10.0.0.3", false).into(),
                finished.into(),
            ];
            cluster.apply_all(objects.map(Change::Upsert));
            let exempt = exempt(&cluster, &policy.id(), &places);
            let number = policy_number(&policy.id());
            let keys = [ExemptKey::new(number, 71), ExemptKey::new(number, 500 | ExemptKey::CGROUP)];
            assert_eq!((exempt.keys, exempt.unknown), (keys.into(), ["kube-system/new".to_owned()].into()));
            assert_eq!(on_host_network(&cluster), ["uid-host".to_owned()].into());
            assert_ne!(whole(number), 0);
        }
    }

    #[test]
    fn p7_nobody_is_exempt_from_a_policy_that_selects_him_not_or_is_gone() {
        let mut cluster = Cluster::new(View { node: "n1".into(), ..View::default() });
        let places = Places { namespaces: [("10.0.0.1".parse().unwrap(), 71)].into(), ..Places::default() };
        cluster.apply(Change::Upsert(pod("own", "n1", "10.0.0.1", false).into()));
        let other = policy("web", true);
        assert_eq!(exempt(&cluster, &other.id(), &places), Exempt::default());
        cluster.apply(Change::Upsert(other.clone().into()));
        assert_eq!(exempt(&cluster, &other.id(), &places), Exempt::default());
    }
}
