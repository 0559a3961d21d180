use testkit::metrics::{Sample, samples};

use super::*;
use crate::{
    Metrics,
    event::Who,
    metrics::Reading,
    usage::{BackendUse, ClientUse, Locality},
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn service(name: &str) -> Option<Service> {
    Some(Service { namespace: "shop".into(), name: name.into(), port: "http".into() })
}

fn policy(name: &str) -> Policy {
    Policy { kind: "BalancingPolicy".into(), name: name.into() }
}

fn count(recent: u64) -> Count {
    // The total is of who asks, not of who counts: it may begin anew.
    Count { total: recent, recent, minute: recent }
}

fn client(service: Option<Service>, policy: Option<Policy>, reason: Reason, recent: u64) -> ClientUse {
    ClientUse {
        client: Who { pod: Some(format!("client-{recent}")), ..Who::default() },
        service,
        policy,
        verdict: reason.verdict().name().into(),
        reason: reason.name().into(),
        count: count(recent),
        last: Some(at(0)),
    }
}

fn backend(
    service: Option<Service>,
    policy: Option<Policy>,
    low: u8,
    locality: Locality,
    recent: u64,
) -> BackendUse {
    BackendUse {
        service,
        policy,
        ip: [10, 1, 0, low].into(),
        port: 80,
        namespace: None,
        pod: None,
        node: None,
        locality,
        count: count(recent),
    }
}

fn usage(second: i64, clients: Vec<ClientUse>, backends: Vec<BackendUse>) -> Usage {
    Usage { time: Some(at(second)), seconds: 1.0, clients, backends, unattributed: 0 }
}

/// Something of everything.
pub(crate) fn use_all(metrics: &Metrics) {
    let clients = vec![
        client(service("web"), None, Reason::Balanced, 5),
        client(service("web"), None, Reason::NoEndpoints, 2),
        client(service("web"), None, Reason::Fallback, 3),
        client(None, Some(policy("dns")), Reason::Balanced, 4),
        client(None, Some(policy("dns")), Reason::NoEndpoints, 1),
    ];
    let backends = vec![
        backend(service("web"), None, 1, Locality::Node, 5),
        backend(service("web"), None, 2, Locality::Zone, 3),
        backend(None, Some(policy("dns")), 3, Locality::Other, 4),
    ];
    metrics.used(&usage(1, clients, backends));
    metrics.fell(&[Fallen { policy: policy("dns"), fallbacks: 7, spills: 1, own: 0 }], at(1));
}

fn all(metrics: &Metrics) -> Vec<Sample> {
    samples(&metrics.text(Reading::default())).unwrap()
}

/// The one series that has these labels.
#[track_caller]
fn value(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let has = |sample: &Sample| {
        sample.name == name
            && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|it| it == value))
    };
    let found: Vec<f64> =
        all(metrics).iter().filter(|sample| has(sample)).map(|sample| sample.value).collect();
    assert!(found.len() <= 1, "{name} {labels:?}: {found:?}");
    found.first().copied()
}

#[test]
fn services_and_policies_are_sums_over_clients_and_backends() {
    let metrics = Metrics::new(10);
    use_all(&metrics);
    use_all(&metrics);
    let web = ("service", "web");
    let dns = ("policy", "dns");
    for (name, labels, expected) in [
        // What a policy left to the service the service's backends got.
        ("balancing_service_connections_total", vec![web, ("namespace", "shop"), ("port", "http")], 16.0),
        ("balancing_service_failures_total", vec![web, ("reason", "no-endpoints")], 4.0),
        ("balancing_service_fallen_total", vec![web, ("reason", "fallback")], 6.0),
        ("balancing_service_backend_connections_total", vec![web, ("locality", "node")], 10.0),
        ("balancing_service_backend_connections_total", vec![web, ("locality", "zone")], 6.0),
        ("balancing_policy_connections_total", vec![dns, ("kind", "BalancingPolicy")], 8.0),
        ("balancing_policy_failures_total", vec![dns, ("reason", "no-endpoints")], 2.0),
        // Totals are told, not what is new.
        ("balancing_policy_fallen_total", vec![dns, ("reason", "fallback")], 7.0),
        ("balancing_policy_fallen_total", vec![dns, ("reason", "spilled")], 1.0),
        ("balancing_policy_backend_connections_total", vec![dns, ("locality", "other")], 8.0),
    ] {
        assert_eq!(value(&metrics, name, &labels), Some(expected), "{name} {labels:?}");
    }
    for sample in all(&metrics) {
        let text = format!("{sample:?}");
        assert!(!text.contains("client-") && !text.contains("10.1.0."), "{text}");
    }
}

#[test]
fn nothing_ever_goes_down() {
    let metrics = Metrics::new(10);
    let name = "balancing_service_connections_total";
    let web = || client(service("web"), None, Reason::Balanced, 5);
    metrics.used(&usage(1, vec![web()], vec![]));
    // Forgotten by who counts, and then back.
    metrics.used(&usage(2, vec![], vec![]));
    assert_eq!(value(&metrics, name, &[("service", "web")]), Some(5.0));
    metrics.used(&usage(3, vec![web()], vec![]));
    assert_eq!(value(&metrics, name, &[("service", "web")]), Some(10.0));

    // The programs count a policy anew: made again, or the maps are new.
    let fell =
        |fallbacks| metrics.fell(&[Fallen { policy: policy("dns"), fallbacks, spills: 0, own: 0 }], at(4));
    for (total, expected) in [(7, 7.0), (9, 9.0), (2, 11.0), (2, 11.0)] {
        fell(total);
        assert_eq!(
            value(&metrics, "balancing_policy_fallen_total", &[("reason", "fallback")]),
            Some(expected)
        );
    }
}

#[test]
fn beyond_so_many_the_rest_is_one_sum() {
    let (most, name) = (3, "balancing_service_connections_total");
    let metrics = Metrics::new(most);
    let one = |low: usize| client(service(&format!("s{low}")), None, Reason::Balanced, 1);
    for second in [1, 2] {
        metrics.used(&usage(second, (0..100).map(one).collect(), vec![]));
    }
    let series: Vec<Sample> = all(&metrics).into_iter().filter(|sample| sample.name == name).collect();
    assert_eq!(series.len(), most + 1, "{series:#?}");
    assert_eq!(series.iter().map(|it| it.value).sum::<f64>(), 200.0);
    assert_eq!(value(&metrics, name, &[("service", "(other)"), ("namespace", "(other)")]), Some(194.0));

    // Who is idle for an hour gives way, and the sum stays.
    let busy = || (1..3).map(one);
    metrics.used(&usage(3000, busy().collect(), vec![]));
    metrics.used(&usage(3603, busy().chain([one(77)]).collect(), vec![]));
    assert_eq!(value(&metrics, name, &[("service", "s0")]), None);
    assert_eq!(value(&metrics, name, &[("service", "s77")]), Some(1.0));
    assert_eq!(value(&metrics, name, &[("service", "(other)")]), Some(194.0));
    metrics.used(&usage(3604, vec![one(78)], vec![]));
    assert_eq!(value(&metrics, name, &[("service", "(other)")]), Some(195.0));
}

#[test]
fn none_is_none() {
    let metrics = Metrics::new(0);
    use_all(&metrics);
    let of = |sample: &Sample| sample.name.contains("_service_") || sample.name.contains("_policy_");
    assert_eq!(all(&metrics).into_iter().filter(of).collect::<Vec<_>>(), []);
}

/// In the build for tests, which is slower than the one that is shipped.
#[test]
fn a_text_of_ten_thousand_services_takes_little_time() {
    let metrics = Metrics::new(10_000);
    let names: Vec<String> = (0..10_000).map(|low| format!("service-{low}")).collect();
    let clients = names.iter().flat_map(|name| {
        [Reason::Balanced, Reason::NoEndpoints].map(|reason| client(service(name), None, reason, 1))
    });
    let backends = names.iter().map(|name| backend(service(name), None, 1, Locality::Zone, 1));
    metrics.used(&usage(1, clients.collect(), backends.collect()));
    let took = |_| {
        let begun = std::time::Instant::now();
        assert!(metrics.text(Reading::default()).lines().count() > 30_000);
        begun.elapsed()
    };
    let least = (0..5).map(took).min().unwrap();
    println!("30,000 series: {least:?}");
    assert!(least < Duration::from_millis(500), "{least:?}");
}
