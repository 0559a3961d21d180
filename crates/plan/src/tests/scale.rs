//! What a start costs: the work for each service must not grow with how many there are.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use abi::space::address_use;
use model::{ObjectId, ObjectName};

use super::world::{PortSketch, Sketch};
use crate::{Desired, ServiceTables};

fn service(n: u32) -> (ObjectId, ServiceTables) {
    let name = ObjectId::service(ObjectName::new("default", format!("s{n}")));
    let mut tables = Sketch::new("", [PortSketch::v4(80, 1, [1])]).tables(&name);
    let ip = IpAddr::from(Ipv4Addr::from(0x0a60_0000 + n));
    let (mut key, spec) = tables.frontends.pop_first().expect("the sketch has one");
    key.endpoint.address = ip.into();
    tables.frontends.insert(key, spec);
    tables.addresses = [(ip, address_use::CLUSTER_IP)].into();
    (name, tables)
}

/// The least of three.
fn time_to_set(count: u32) -> Duration {
    let services: Vec<_> = (0..count).map(service).collect();
    let once = |_| {
        let services = services.clone();
        let mut desired = Desired::new();
        let begun = Instant::now();
        for (name, tables) in services {
            desired.set(&name, tables, None);
        }
        let took = begun.elapsed();
        assert_ne!(desired.space().v4[0].flags, 0);
        took
    };
    (0..3).map(once).min().unwrap_or_default()
}

#[test]
fn c1_services_are_taken_in_one_by_one() {
    let (few, many) = (time_to_set(1_000), time_to_set(8_000));
    // 8 times as many: in proportion about 9 times as long, and 64 times if each looked at all others.
    assert!(many < few * 30, "1,000 services: {few:?}; 8,000: {many:?}");
}
