//! What a start over pinned tables costs: the work for each service must not grow with how many there are.
#![allow(clippy::unwrap_used)]

use std::{net::Ipv4Addr, time::Duration};

use agent::Reconciler;
use balancing_tests::scenario::upserts;
use datapath::memory::Tables;
use model::{Change, View};
use plan::{Capacity, Deletes};
use rustix::time::{ClockId, clock_gettime};
use testkit::object::{service, slice};

/// Each of one port and one endpoint.
fn objects(count: u32) -> (Vec<Change>, Vec<Change>) {
    let (mut services, mut slices) = (Vec::new(), Vec::new());
    for index in 0..count {
        let name = format!("s{index}");
        let [vip, ip] =
            [0x0a60_0001, 0x0a80_0001].map(|first: u32| Ipv4Addr::from(first + index).to_string());
        services.extend(upserts(&service(&name).cluster_ip(&vip).port("80").to_string()).unwrap());
        let slice = slice(&format!("{name}-1"), &name).port("80").endpoint(ip.as_str());
        slices.extend(upserts(&slice.to_string()).unwrap());
    }
    (services, slices)
}

/// CPU time: other tests run at the same time.
fn cpu() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

fn start(store: Tables, (services, slices): &(Vec<Change>, Vec<Change>)) -> (Tables, Duration) {
    let capacity = Capacity::for_cluster(16_384, 16_384);
    let mut reconciler = Reconciler::new(store, capacity, View::default()).unwrap();
    let begun = cpu();
    // As an API server tells of them: one resource is complete long before the other.
    for change in services.iter().chain(slices) {
        reconciler.apply([change.clone()]);
    }
    reconciler.complete();
    let round = reconciler.round(Deletes::Allowed).unwrap();
    assert!(round.refused.is_empty());
    let took = cpu() - begun;
    (std::mem::take(reconciler.store_mut()), took)
}

#[test]
fn c1_a_start_does_not_look_for_each_service_among_all_others() {
    let time = |count| {
        let objects = objects(count);
        let (store, _) = start(Tables::default(), &objects);
        start(store, &objects).1
    };
    let (few, many) = (time(300), time(2_400));
    // 8 times as many: in proportion about 9 times as long, and 64 times if each looked at all others.
    assert!(many < few * 20, "300 services: {few:?}; 2,400: {many:?}");
}
