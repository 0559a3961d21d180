//! Objects for tests: as little said as possible.

use std::collections::BTreeMap;

use model::{
    BackendPort, FrontendPort, ObjectName, Pod, PodBackends, Policy, PolicyBackends, PolicyFrontend,
    Protocol, RedirectMode, Selector, TargetPort,
};

pub(crate) fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

pub(crate) fn pod_name(number: usize) -> ObjectName {
    ObjectName::new("shop", format!("p{number}"))
}

/// A ready pod on node n1 with the label app=web.
pub(crate) fn pod(number: usize) -> Pod {
    let number_of = u8::try_from(number % 250).unwrap_or_default();
    Pod {
        name: pod_name(number),
        labels: map(&[("app", "web")]),
        node: Some("n1".into()),
        uid: String::new(),
        host_network: false,
        ips: vec![[10, 0, (number / 250) as u8, number_of].into()],
        ready: true,
        finished: false,
        terminating: false,
        ports: vec![],
        containers: vec![],
        socket_lb: None,
    }
}

/// A BalancingPolicy of 169.254.0.90:80/TCP to port 8080 of pods with app=web.
pub(crate) fn policy(name: &str) -> Policy {
    Policy {
        name: name.into(),
        uid: format!("uid-{name}"),
        created: Some(1),
        frontend: PolicyFrontend::Address {
            ip: [169, 254, 0, 90].into(),
            ports: vec![FrontendPort { name: "p".into(), protocol: Protocol::Tcp, port: 80 }],
        },
        backends: PolicyBackends::Pods(backends(TargetPort::Number(8080)), RedirectMode::PodEndpoint),
        nodes: None,
        outside: true,
        limit: None,
    }
}

pub(crate) fn backends(target: TargetPort) -> PodBackends {
    PodBackends {
        selector: Selector { labels: map(&[("app", "web")]), expressions: vec![] },
        ports: vec![BackendPort { name: "p".into(), protocol: Protocol::Tcp, target }],
    }
}
