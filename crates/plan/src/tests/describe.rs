//! What plans, refusals and differences say in words.

use abi::{Space, client::SourceKey, space::address_use};
use model::{ObjectId, ServiceType, TrafficPolicy};

use super::{
    compile::{DRAINING, READY, compiled, endpoint, ip, name, slice, web},
    damage::Damage,
    world::{PortSketch, ROOMY, Sketch, edit, service},
};
use crate::{Capacity, Deletes, Desired, Image, Phase, Plan, ServiceTables, Table, Touched, diff};

fn plan(desired: &Desired, table: &mut Table) -> Plan {
    diff(desired, &Touched::everything(), table, Deletes::Allowed)
}

/// One of everything.
fn desired() -> Desired {
    let mut web = model::Service {
        kind: ServiceType::LoadBalancer,
        load_balancer_ips: vec![ip("192.0.2.1")],
        source_ranges: ["10.1.7.0/24", "fd00:1::/64"].map(|it| it.parse().unwrap()).into(),
        affinity_seconds: Some(600),
        external_policy: TrafficPolicy::Local,
        ..web()
    };
    web.ports.truncate(1);
    web.ports[0].node_port = 30_080;
    let endpoints = [endpoint("10.1.0.1", "there", READY), endpoint("10.1.0.2", "here", DRAINING)];
    let tables = compiled(web, [slice("a", endpoints)]);

    let mut desired = Desired::new();
    desired.set(&ObjectId::service(name()), tables, None);
    let foreign = [(ip("198.51.100.9"), address_use::FOREIGN | address_use::VIP)].into();
    desired.set(&service(1), ServiceTables { addresses: foreign, ..ServiceTables::default() }, None);
    let nodes = [
        ("127.0.0.1", address_use::LOOPBACK),
        ("172.18.0.1", address_use::THIS_NODE),
        ("172.18.0.2", address_use::OTHER_NODE),
    ];
    desired.set_nodes(nodes.map(|(text, uses)| (ip(text), uses)).into());
    desired.set_cidrs(vec!["10.96.0.0/12".parse().unwrap()]);
    desired
}

#[test]
fn a_plan_is_a_line_for_each_write() {
    let (mut desired, mut table) = (desired(), Table::new(ROOMY));
    let lines = |plan: Plan| plan.phases.iter().flat_map(Phase::lines).collect::<Vec<_>>();
    assert_eq!(
        lines(plan(&desired, &mut table)),
        [
            r#"name 0: default/web:http/TCP IPv4, port 80, uid "uid""#,
            r#"name 1: default/web:http/TCP IPv6, port 80, uid "uid""#,
            "backend 0: 10.1.0.1:8080 of service 0, generation 1, live usable internal cluster",
            "backend 1: 10.1.0.2:8080 of service 0, generation 1, live usable terminating",
            "source 10.1.7.0/24 of service 0",
            "source fd00:1::/64 of service 1",
            "list 0: backend 0",
            "record 0: [::]:30080/TCP NodePort of service 1, flags 0x2, affinity 600 s, no backends",
            "record 1: 0.0.0.0:30080/TCP NodePort of service 0, flags 0x3, affinity 600 s, backends at 0..1",
            "record 2: 10.96.0.1:80/TCP ClusterIP of service 0, flags 0x1, affinity 600 s, backends at 0..1",
            "record 3: 192.0.2.1:80/TCP LoadBalancer of service 0, flags 0x5, affinity 600 s, backends at 0..1",
            "record 4: [fd00::1]:80/TCP ClusterIP of service 1, flags 0x0, affinity 600 s, no backends",
            "frontend [::]:30080/TCP: record 0",
            "frontend 0.0.0.0:30080/TCP: record 1",
            "frontend 10.96.0.1:80/TCP: record 2",
            "frontend 192.0.2.1:80/TCP: record 3",
            "frontend [fd00::1]:80/TCP: record 4",
            "address 10.96.0.1: cluster IP",
            "address 127.0.0.1: loopback of this node",
            "address 172.18.0.1: this node",
            "address 172.18.0.2: another node",
            "address 192.0.2.1: VIP",
            "address 198.51.100.9: cluster IP of another proxy's service, VIP",
            "address fd00::1: cluster IP",
            "space: reserved 10.96.0.0/12, services in 198.51.100.9/32, services in fd00::1/128, \
             node ports 30080-30080",
        ]
    );
    desired.remove(&ObjectId::service(name()));
    let gone = lines(plan(&desired, &mut table));
    for line in [
        "space: reserved 10.96.0.0/12, services in 198.51.100.9/32, no node ports",
        "delete frontend 192.0.2.1:80/TCP",
        "delete address fd00::1",
        "delete source 10.1.7.0/24 of service 0",
        "retire backend 1: 10.1.0.2:8080 of service 0, generation 1, free",
        "delete name 1",
    ] {
        assert!(gone.iter().any(|it| it == line), "{line}: {gone:#?}");
    }
}

#[test]
fn r30_a_refusal_says_what_is_full_and_what_is_left_out() {
    let nothing = Capacity::new(|_| 0);
    let cases = [
        (nothing, "names full (0 entries): service port default/web:http/TCP IPv4"),
        (
            Capacity { services: 9, ..nothing },
            "sources full (0 entries): source ranges of default/web:http/TCP IPv6",
        ),
        (Capacity { services: 9, ..nothing }, "frontends6 full (0 entries): frontend [fd00::1]:80/TCP"),
        (nothing, "addresses4 full (0 entries): address 192.0.2.1"),
        (
            Capacity { backends: 1, ..ROOMY },
            "backends full (1 entries): 1 backends of default/web:http/TCP IPv4 (first 10.1.0.2:8080)",
        ),
    ];
    for (capacity, expected) in cases {
        let plan = plan(&desired(), &mut Table::new(capacity));
        let refused: Vec<String> = plan.refused.iter().map(ToString::to_string).collect();
        let room = expected.split(' ').next().unwrap();
        let expected = format!("{expected} can't be programmed; raise the capacity of {room}");
        assert!(refused.contains(&expected), "{expected}: {refused:#?}");
        assert!(plan.to_string().ends_with(&format!("; {} refused", refused.len())), "{plan}");
    }
}

#[test]
fn differences_name_object_and_field() {
    let (mut desired, mut table) = (desired(), Table::new(ROOMY));
    // Of one that is gone the generation is left, at backend 2.
    for sketch in [None, Some(Sketch::new("", [PortSketch::v4(80, 5, [7])])), None] {
        edit(&mut desired, &(2, sketch));
        let _ = plan(&desired, &mut table);
    }
    let told = |change: &dyn Fn(&mut Image)| {
        let mut image = table.image();
        change(&mut image);
        table.compare(&image).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let cases: [Damage; _] = [
        ("", &|_| {}),
        ("frontend 10.96.0.1:80/TCP: is missing", &|image| _ = image.frontends.remove(2)),
        ("frontend 10.96.0.1:80/TCP: points to record 7, not 2", &|image| image.frontends[2].1 = 7),
        ("record 2: is missing", &|image| _ = image.records.remove(2)),
        ("", &|image| image.records.push((90, image.records[2].1))),
        ("record 2: key is 10.96.0.1:81/TCP, not 10.96.0.1:80/TCP", &|image| {
            image.records[2].1.port_be = 81u16.to_be();
        }),
        ("record 2: key is 10.96.0.1:80/protocol 4 below a policy, not 10.96.0.1:80/TCP", &|image| {
            image.records[2].1.protocol = 132;
        }),
        ("record 2: mode is 3, not 1", &|image| image.records[2].1.mode = 3),
        ("record 2: flags is 0, not 1", &|image| image.records[2].1.flags = 0),
        ("record 2: service is 1, not 0", &|image| image.records[2].1.service = 1),
        ("record 2: affinity is 6, not 600", &|image| image.records[2].1.affinity = 6),
        ("record 2: list is backends at 0..2, not backends at 0..1", &|image| {
            image.records[2].1.local.len = 2
        }),
        ("record 2: padding is not 0", &|image| image.records[2].1.pad[2] = 1),
        ("record 2: limit is 7, not 0", &|image| image.records[2].1.limit = 7),
        ("record 2: policy is 3, not 0", &|image| image.records[2].1.policy = [3, 0]),
        ("list position 0: has backend 7, not 0", &|image| image.lists[0] = 7),
        ("list position 0: is missing", &|image| image.lists.clear()),
        ("backend 0: endpoint is 10.1.0.1:81, not 10.1.0.1:8080", &|image| {
            image.backends[0].1.port_be = 81u16.to_be();
        }),
        ("backend 0: flags is 0, not 27", &|image| image.backends[0].1.flags = 0),
        ("backend 0: service is 1, not 0", &|image| image.backends[0].1.service = 1),
        ("backend 0: generation is 5, not 1", &|image| image.backends[0].1.generation = 5),
        ("backend 0: padding is not 0", &|image| image.backends[0].1.index = 5),
        ("backend 2: is missing", &|image| _ = image.backends.remove(2)),
        ("backend 3: should not be there", &|image| {
            image.backends.push((3, abi::Backend { generation: 0, ..image.backends[0].1 }));
        }),
        ("", &|image| image.backends.push((3, abi::Backend { generation: 0, ..image.backends[2].1 }))),
        ("name 3: should not be there", &|image| image.names.push((3, image.names[0].1))),
        (
            r#"name 0: is default/web:http/TCP IPv4, port 0, uid "uid", not default/web:http/TCP IPv4, port 80, uid "uid""#,
            &|image| image.names[0].1.port_be = 0,
        ),
        ("address 10.96.0.1: is VIP, not cluster IP", &|image| image.addresses[0].1 = address_use::VIP),
        ("address 10.96.0.1: is unknown (0x80), not cluster IP", &|image| image.addresses[0].1 = 0x80),
        ("address fd00::1: is missing", &|image| _ = image.addresses.pop()),
        ("address 10.0.0.1: should not be there", &|image| image.addresses.push((ip("10.0.0.1"), 1))),
        ("source 10.1.7.0/24 of service 0: is missing", &|image| _ = image.sources.remove(0)),
        ("source 10.1.7.0/25 of service 0: should not be there", &|image| {
            image.sources.push(SourceKey { bits: image.sources[0].bits + 1, ..image.sources[0] });
        }),
        (
            "space: is no node ports, not reserved 10.96.0.0/12, services in 198.51.100.9/32, \
             services in fd00::1/128, node ports 30080-30080",
            &|image| image.space = Space::default(),
        ),
        // Hashes have no order; of an entry that was read twice the last counts.
        ("name 4: should not be there", &|image| {
            image.backends.reverse();
            image.sources.reverse();
            let mut first = image.names[0];
            first.1.port_be = 0;
            image.names.insert(0, first);
            image.names.extend([(4, first.1); 2]);
        }),
    ];
    for (expected, change) in cases {
        assert_eq!(told(change), expected);
    }
}
