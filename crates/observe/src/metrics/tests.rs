use super::*;

fn lines(metrics: &Metrics) -> Vec<String> {
    metrics.text(Reading::default()).lines().map(str::to_owned).collect()
}

#[test]
fn problems_of_the_source_are_those_of_now() {
    let metrics = Metrics::new(10);
    for count in [0, 3, 1] {
        metrics.source_problems(count);
        let line = format!("balancing_source_problems {count}");
        assert!(lines(&metrics).contains(&line), "{}", metrics.text(Reading::default()));
    }
}

#[test]
fn probes_are_counted_by_what_came_of_them_and_their_targets_as_they_are() {
    let metrics = Metrics::new(10);
    assert!(lines(&metrics).contains(&"balancing_probe_targets{state=\"healthy\"} 0".into()));
    metrics.probe_targets(3, 2);
    metrics.probe_targets(4, 1);
    for outcome in ["good", "timeout", "good"] {
        metrics.probed(outcome);
    }
    let lines = lines(&metrics);
    for line in [
        "balancing_probe_targets{state=\"healthy\"} 4",
        "balancing_probe_targets{state=\"unhealthy\"} 1",
        "balancing_probes_total{outcome=\"good\"} 2",
        "balancing_probes_total{outcome=\"timeout\"} 1",
    ] {
        assert!(lines.contains(&line.to_owned()), "{line} is missing: {lines:#?}");
    }
}

#[test]
fn r25_programming_is_counted_by_family_in_kube_proxys_buckets() {
    let metrics = Metrics::new(10);
    let name = "kubeproxy_network_programming_duration_seconds";
    for family in ["IPv4", "IPv6"] {
        let none = format!("{name}_count{{ip_family=\"{family}\"}} 0");
        assert!(lines(&metrics).contains(&none), "{}", metrics.text(Reading::default()));
    }
    metrics.programmed(Family::V4, Duration::from_millis(300));
    metrics.programmed(Family::V4, Duration::from_millis(700));
    metrics.programmed(Family::V6, Duration::from_secs(301));
    let lines = lines(&metrics);
    for line in [
        format!("# TYPE {name} histogram"),
        format!("{name}_count{{ip_family=\"IPv4\"}} 2"),
        format!("{name}_sum{{ip_family=\"IPv4\"}} 1.0"),
        format!("{name}_bucket{{le=\"0.25\",ip_family=\"IPv4\"}} 0"),
        format!("{name}_bucket{{le=\"0.5\",ip_family=\"IPv4\"}} 1"),
        format!("{name}_bucket{{le=\"1.0\",ip_family=\"IPv4\"}} 2"),
        format!("{name}_bucket{{le=\"300.0\",ip_family=\"IPv6\"}} 0"),
        format!("{name}_bucket{{le=\"+Inf\",ip_family=\"IPv6\"}} 1"),
        "# EOF".into(),
    ] {
        assert!(lines.contains(&line), "{line} is missing: {lines:#?}");
    }
    // 0, two quarters, 59 seconds, 12 fives, 7 halves, and the rest.
    assert_eq!(
        lines.iter().filter(|it| it.starts_with(&format!("{name}_bucket{{")) && it.contains("IPv4")).count(),
        82
    );
}

/// With something of everything.
fn busy() -> (Metrics, Reading) {
    let metrics = Metrics::new(10);
    metrics.known(1, &[("services".into(), 3)]);
    metrics.probed("good");
    metrics.events_suppressed("no-endpoints", 5);
    metrics.left_out(4);
    traffic::tests::use_all(&metrics);
    let kernel = Kernel {
        decisions: vec![(abi::Hook::Connect, true, abi::Reason::NoEndpoints, 7)],
        events_lost: 2,
        unattributed: 3,
        paused: true,
        programs: vec![
            Program { hook: "connect4", attached: true, runs: Some((Duration::from_millis(1500), 3)) },
            Program { hook: "connect6", attached: false, runs: None },
        ],
    };
    let reading = Reading {
        kernel: Some(kernel),
        maps: vec![MapUse { name: "slots".into(), entries: 5, capacity: 10, limit: 20 }],
        process: Some(Process { cpu: 0.5, ..Process::default() }),
        health: vec![("/livez", true), ("/healthz", false)],
        silence: Duration::from_millis(20),
        waiting: Duration::from_secs(1),
        source: Some(Source { name: "manifests", synced: true, stale: Duration::from_secs(4) }),
        sinks: vec![Sink { name: "file:/x".into(), written: 9, lost: 4, failing: true }],
    };
    (metrics, reading)
}

#[test]
fn all_of_them_are_documented_and_no_others() {
    let (metrics, reading) = busy();
    let page = include_str!("../../../../docs/metrics.md");
    let documented = testkit::metrics::documented(page, "Agent").unwrap();
    let exposed = testkit::metrics::metrics(&metrics.text(reading)).unwrap();
    for (name, metric) in &exposed {
        assert_eq!(documented.get(name), Some(metric), "{name} in docs/metrics.md");
    }
    assert_eq!(documented, exposed);
}

#[test]
fn what_is_read_is_written() {
    let (metrics, reading) = busy();
    let text = metrics.text(reading);
    for line in [
        "balancing_decisions_total{hook=\"connect\",family=\"IPv6\",verdict=\"refused\",reason=\"no-endpoints\"} 7",
        "balancing_events_lost_total 2",
        "balancing_usage_unattributed_total 3",
        "balancing_usage_left_out_total 4",
        "balancing_events_suppressed_total{reason=\"no-endpoints\"} 5",
        "balancing_paused 1.0",
        "balancing_hook_attached{hook=\"connect4\"} 1.0",
        "balancing_hook_attached{hook=\"connect6\"} 0.0",
        "balancing_program_run_seconds_total{hook=\"connect4\"} 1.5",
        "balancing_program_runs_total{hook=\"connect4\"} 3",
        "balancing_map_entries{map=\"slots\"} 5.0",
        "balancing_map_limit{map=\"slots\"} 20.0",
        "balancing_healthy{path=\"/healthz\"} 0.0",
        "balancing_source_stale_seconds{source=\"manifests\"} 4.0",
        "balancing_event_log_written_total{sink=\"file:/x\"} 9",
        "balancing_event_log_lost_total{sink=\"file:/x\"} 4",
        "balancing_event_log_failing{sink=\"file:/x\"} 1.0",
        "balancing_kernel_readable 1.0",
        "process_cpu_seconds_total 0.5",
    ] {
        assert!(text.lines().any(|it| it == line), "{line} is missing: {text}");
    }
    let unreadable = metrics.text(Reading::default());
    assert!(unreadable.contains("balancing_kernel_readable 0.0") && !unreadable.contains("balancing_paused"));
}

#[test]
fn rounds_are_timed_for_both_families_and_counted_once() {
    let metrics = Metrics::new(0);
    metrics.queued("2026-01-01T00:00:00.5Z".parse().unwrap());
    metrics.round(Duration::from_millis(3), 12);
    metrics.round(Duration::from_millis(1), 0);
    metrics.round_failed();
    metrics.synced("2026-01-01T00:00:01Z".parse().unwrap(), Some(Duration::from_millis(500)));
    metrics.synced("2026-01-01T00:00:02Z".parse().unwrap(), None);
    metrics.audited(0);
    metrics.audited(3);
    let lines = lines(&metrics);
    for line in [
        "kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 2",
        "kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"0.002\",ip_family=\"IPv6\"} 1",
        "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv6\"} 1767225600.5",
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 1767225602.0",
        "balancing_sync_latency_seconds_count 1",
        "balancing_rounds_total{outcome=\"written\"} 1",
        "balancing_rounds_total{outcome=\"nothing\"} 1",
        "balancing_rounds_total{outcome=\"failed\"} 1",
        "balancing_writes_total 12",
        "balancing_audits_total 2",
        "balancing_audit_differences_total 3",
    ] {
        assert!(lines.contains(&line.to_owned()), "{line} is missing: {lines:#?}");
    }
}
