use super::*;
use crate::sample::*;

fn udp(mut port: BackendPort) -> BackendPort {
    port.protocol = Protocol::Udp;
    port
}

/// What a policy redirects, in short: `169.254.0.90:80 -> 8080`.
fn redirects(frontend: PolicyFrontend, ports: Vec<BackendPort>, service: Option<&Service>) -> Vec<String> {
    let policy =
        Policy { frontend, backends: PolicyBackends::Local(PodBackends { ports, ..pods() }), ..policy("p") };
    let line = |it: &Redirect<'_>| {
        let TargetPort::Number(number) = it.backend.target else { panic!("{it:?}") };
        format!("{}:{}/{} -> {number}", it.ip, it.port, it.backend.protocol)
    };
    policy.redirects(service).iter().map(line).collect()
}

fn address(ports: Vec<FrontendPort>) -> PolicyFrontend {
    PolicyFrontend::Address { ip: ip("169.254.0.90"), ports }
}

#[test]
fn p2_a_frontend_port_leads_to_the_backend_port_of_its_name_and_protocol() {
    type Case<'a> = (Vec<FrontendPort>, Vec<BackendPort>, &'a [&'a str]);
    let (f, b) = (frontend_port, backend_port);
    let table: [Case<'_>; 7] = [
        // One on each side: names need not match.
        (vec![f("a", 80)], vec![b("b", 8080)], &["169.254.0.90:80/TCP -> 8080"]),
        (vec![f("", 80)], vec![b("b", 8080)], &["169.254.0.90:80/TCP -> 8080"]),
        // But protocols must.
        (vec![f("a", 80)], vec![udp(b("a", 8080))], &[]),
        (
            vec![f("a", 80), f("b", 81)],
            vec![b("b", 2), b("a", 1)],
            &["169.254.0.90:80/TCP -> 1", "169.254.0.90:81/TCP -> 2"],
        ),
        // Unnamed matches unnamed, as often as it is asked for.
        (
            vec![f("", 80), f("", 81)],
            vec![b("", 1), b("a", 2)],
            &["169.254.0.90:80/TCP -> 1", "169.254.0.90:81/TCP -> 1"],
        ),
        (vec![f("a", 80)], vec![udp(b("a", 1)), b("a", 2)], &["169.254.0.90:80/TCP -> 2"]),
        // Two frontends and one backend of one of their names: the other leads nowhere.
        (vec![f("a", 80), f("b", 81)], vec![b("a", 1)], &["169.254.0.90:80/TCP -> 1"]),
    ];
    for (frontend, backend, expected) in table {
        assert_eq!(redirects(address(frontend), backend, None), expected);
    }
}

fn web() -> Service {
    let more = |name: &str, port, protocol| crate::ServicePort {
        name: name.into(),
        protocol,
        port,
        ..service().ports.remove(0)
    };
    Service {
        cluster_ips: vec![ip("10.96.0.1"), ip("fd00::1")],
        ports: vec![
            more("http", 80, Protocol::Tcp),
            more("metrics", 9090, Protocol::Tcp),
            more("dns", 53, Protocol::Udp),
        ],
        ..service()
    }
}

#[test]
fn p2_p3_ports_of_a_service_are_meant_by_number_and_protocol_or_all_of_them_by_name() {
    let (f, b) = (frontend_port, backend_port);
    let of = |ports| PolicyFrontend::Service { service: name("web"), ports };
    let web = web();
    let both = |port: &str| ["10.96.0.1", "fd00::1"].map(|ip| format!("{ip}:{port}")).to_vec();
    // Its ports by name; a port that the policy has no backend for stays the service's.
    assert_eq!(redirects(of(vec![]), vec![b("http", 1), b("other", 2)], Some(&web)), both("80/TCP -> 1"));
    // One backend port is for all of its protocol.
    let all = [both("80/TCP -> 1"), both("9090/TCP -> 1")].concat();
    assert_eq!(redirects(of(vec![]), vec![b("", 1)], Some(&web)), all);
    assert_eq!(redirects(of(vec![]), vec![udp(b("x", 5353))], Some(&web)), both("53/UDP -> 5353"));
    // By number and protocol, whatever the service calls it.
    assert_eq!(redirects(of(vec![f("mine", 80)]), vec![b("other", 1)], Some(&web)), both("80/TCP -> 1"));
    assert_eq!(
        redirects(of(vec![f("a", 9090), f("b", 80)]), vec![b("a", 1), b("b", 2)], Some(&web)),
        [both("80/TCP -> 2"), both("9090/TCP -> 1")].concat()
    );
    // Ports that it has not, or of another protocol.
    assert!(redirects(of(vec![f("a", 81), f("b", 53)]), vec![b("a", 1), b("b", 2)], Some(&web)).is_empty());
    // It need not exist.
    assert!(redirects(of(vec![]), vec![b("", 1)], None).is_empty());
    assert!(redirects(of(vec![]), vec![b("", 1)], Some(&Service { cluster_ips: vec![], ..web })).is_empty());
}

#[test]
fn a_policy_and_its_ports_are_told_from_others() {
    let local = policy("dns");
    let other = Policy { backends: PolicyBackends::Pods(pods(), RedirectMode::PodEndpoint), ..policy("dns") };
    assert_eq!(local.id().to_string(), "LocalRedirectPolicy dns");
    assert_eq!(other.id().to_string(), "BalancingPolicy dns");
    let port = |policy: &Policy| policy.port_name(&policy.backend_ports()[0], Family::V4);
    assert_eq!(port(&local).to_string(), "LocalRedirectPolicy dns:http/TCP");
    assert_ne!(port(&local), port(&other));
    assert_eq!(port(&local).owner(), local.id());
}
