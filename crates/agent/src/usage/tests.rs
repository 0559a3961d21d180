use super::*;

const START: &str = "2026-11-22T10:00:00Z";

/// Services have the name `s<id>`, backend i is 10.0.0.i of service 1, and cgroups 100 and 101 are one pod's.
struct Numbers;

fn owner(id: u32) -> Arc<Owner> {
    Arc::new(Owner { kind: 0, namespace: "shop".into(), name: format!("s{id}"), port: "http".into() })
}

impl Meaning for Numbers {
    fn owner(&mut self, service: u32) -> Option<Arc<Owner>> {
        (service < 1000).then(|| owner(service))
    }

    fn backend(&mut self, index: u32, generation: u32) -> Option<(Arc<Owner>, SocketAddr)> {
        let ip = std::net::Ipv4Addr::from(0x0a00_0000 + index);
        (generation == 1).then(|| (owner(1), SocketAddr::new(ip.into(), 80)))
    }

    /// All but `s9`.
    fn is_there(&mut self, owner: &Owner) -> bool {
        owner.name != "s9"
    }

    fn place(&mut self, client: Client) -> Option<Arc<Place>> {
        let Client::Cgroup(cgroup) = client else { return None };
        Some(Arc::new(Place { host: format!("unit{}", cgroup / 10), ..Place::default() }))
    }
}

fn client(cgroup: u64, service: u32, reason: Reason) -> Key {
    Key::Client {
        client: Client::Cgroup(cgroup),
        service: (service != 0).then_some(service),
        reason: reason as u8,
    }
}

/// One that has read what was before it, which was nothing.
fn started() -> Ledger {
    let mut ledger = Ledger::default();
    read(&mut ledger, 0, &[]);
    ledger
}

fn read(ledger: &mut Ledger, seconds: u64, counted: &[(Key, u64)]) -> u64 {
    let now = Duration::from_secs(seconds);
    let time = START.parse::<Timestamp>().unwrap() + now;
    ledger.add(counted.iter().copied().collect(), &mut Numbers, now, time)
}

fn shown(ledger: &Ledger, recent: bool) -> Usage {
    let who = |_, place: Option<&Place>| Who { host: place.map(|it| it.host.clone()), ..Who::default() };
    let here = |_: &Owner, _| Whereabouts { pod: None, node: Some("n1".into()), locality: Locality::Node };
    ledger.usage(recent, 0, who, here)
}

fn counts(count: Count) -> [u64; 3] {
    [count.total, count.recent, count.minute]
}

#[test]
fn counts_are_those_of_the_last_reading_the_last_minute_and_ever() {
    let mut ledger = started();
    let key = client(100, 1, Reason::Balanced);
    for (at, count, expected) in [
        (2, 5, [5, 5, 5]),
        (4, 1, [6, 1, 6]),
        (30, 10, [16, 10, 16]),
        // The first 5 s part is over a minute old, the second is not.
        (61, 2, [18, 2, 12]),
        (1000, 3, [21, 3, 3]),
    ] {
        read(&mut ledger, at, &[(key, count)]);
        let usage = shown(&ledger, false);
        assert_eq!(counts(usage.clients[0].count), expected, "at {at} s");
        assert_eq!(usage.clients[0].last, usage.time);
    }
    read(&mut ledger, 1002, &[]);
    let usage = shown(&ledger, false);
    assert_eq!((counts(usage.clients[0].count), usage.seconds), ([21, 0, 3], 2.0));
    assert_eq!(usage.clients[0].last.unwrap().to_string(), "2026-11-22T10:16:40Z");
    assert!(shown(&ledger, true).clients.is_empty(), "nothing since the last reading");
}

#[test]
fn cgroups_of_one_client_are_one_row_and_reasons_are_apart() {
    let mut ledger = started();
    let (ok, refused) = (Reason::Balanced, Reason::NoEndpoints);
    let counted = [
        (client(100, 1, ok), 3),
        (client(101, 1, ok), 4),
        (client(101, 1, refused), 1),
        (client(110, 2, ok), 1),
        (client(110, 0, Reason::UnusedAddress), 2),
    ];
    read(&mut ledger, 1, &counted);
    let usage = shown(&ledger, false);
    let mut rows: Vec<_> = usage
        .clients
        .iter()
        .map(|it| {
            let service = it.service.as_ref().map_or("-", |service| &service.name);
            (it.client.host.as_deref().unwrap(), service, it.verdict.as_str(), it.count.total)
        })
        .collect();
    rows.sort_unstable();
    let expected = [
        ("unit10", "s1", "refused", 1),
        ("unit10", "s1", "translated", 7),
        ("unit11", "-", "unreachable", 2),
        ("unit11", "s2", "translated", 1),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn backends_are_counted_by_address_and_what_nobody_knows_is_told() {
    let mut ledger = started();
    let backend = |index, generation| Key::Backend { index, generation };
    assert_eq!(read(&mut ledger, 1, &[(backend(1, 1), 3), (backend(2, 1), 4), (backend(2, 7), 5)]), 5);
    let usage = ledger.usage(false, 2, |_, _| Who::default(), |_, _| Whereabouts::default());
    let rows: Vec<_> = usage.backends.iter().map(|it| (it.ip.to_string(), it.count.total)).collect();
    assert_eq!(rows, [("10.0.0.2".to_owned(), 4), ("10.0.0.1".to_owned(), 3)]);
    assert_eq!(usage.unattributed, 7, "of a generation that is gone, and what the programs had no room for");
}

#[test]
fn where_there_is_no_room_the_idle_go_and_nothing_is_lost_unsaid() {
    let mut ledger = started();
    let many = |from: u64, count: u64| (from..from + count).map(|n| (client(n, 1, Reason::Balanced), 1));
    let most = MOST[0] as u64;
    read(&mut ledger, 1, &many(0, most).collect::<Vec<_>>());
    assert_eq!(read(&mut ledger, 2, &many(most, 10).collect::<Vec<_>>()), 10, "which the metric is told");
    assert_eq!((ledger.clients.iter().count(), ledger.unattributed), (MOST[0], 10), "all are in use");
    read(&mut ledger, 62, &many(most, 10).collect::<Vec<_>>());
    assert_eq!((ledger.clients.iter().count(), ledger.unattributed), (10, 10));
}

#[test]
fn all_backends_of_the_largest_cluster_have_room() {
    let mut ledger = started();
    let backends: Vec<_> = (0..100_000).map(|index| (Key::Backend { index, generation: 1 }, 1)).collect();
    read(&mut ledger, 1, &backends);
    assert_eq!((ledger.backends.iter().count(), ledger.unattributed), (100_000, 0));
}

#[test]
fn what_was_counted_before_the_agent_started_is_no_news() {
    let mut ledger = Ledger::default();
    let key = client(100, 1, Reason::Balanced);
    read(&mut ledger, 0, &[(key, 5000)]);
    let told = shown(&ledger, true);
    assert_eq!(counts(told.clients[0].count), [5000, 5000, 0], "for sums of all readings");
    read(&mut ledger, 2, &[(client(110, 1, Reason::Balanced), 1)]);
    let usage = shown(&ledger, false);
    let rows: Vec<_> = usage.clients.iter().map(|it| (counts(it.count), it.last.is_some())).collect();
    assert_eq!(rows, [([1, 1, 1], true), ([5000, 0, 0], false)]);
    read(&mut ledger, 4, &[(key, 1)]);
    let usage = shown(&ledger, false);
    let again = usage.clients.iter().find(|it| it.count.total == 5001).unwrap();
    assert_eq!((counts(again.count), again.last), ([5001, 1, 1], usage.time));
}

#[test]
fn what_is_gone_is_forgotten_when_it_was_idle_for_ten_minutes() {
    let mut ledger = started();
    let services = |ledger: &Ledger| {
        let mut names: Vec<String> =
            shown(ledger, false).clients.into_iter().filter_map(|it| Some(it.service?.name)).collect();
        names.sort_unstable();
        names
    };
    read(&mut ledger, 2, &[(client(1, 9, Reason::Balanced), 1), (client(1, 1, Reason::Balanced), 1)]);
    read(&mut ledger, 3, &[(client(1, 0, Reason::UnusedAddress), 1)]);
    read(&mut ledger, 590, &[]);
    assert_eq!(services(&ledger), ["s1", "s9"]);
    read(&mut ledger, 660, &[]);
    assert_eq!((services(&ledger), ledger.clients.iter().count()), (vec!["s1".to_owned()], 2));
}
