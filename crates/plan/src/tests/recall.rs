//! What is in force for a service, as if it were desired.

use model::ObjectId;
use proptest::prelude::*;

use super::{
    compile::{READY, compiled, endpoint, ip, name, slice, web},
    maps::Maps,
    world::{ROOMY, edit, edits, grace, owners, service, settle, sketch},
};
use crate::{Deletes, Desired, Table, Touched, diff};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn r6_what_is_recalled_is_what_was_compiled(
        first in sketch(),
        mut second in sketch(),
        restart in any::<bool>(),
    ) {
        // A source that knows no uid says nothing against the one that is known.
        if second.uid.is_empty() {
            second.uid.clone_from(&first.uid);
        }
        let (mut desired, mut table, mut maps) = (Desired::new(), Table::new(ROOMY), Maps::default());
        let name = service(1);
        for sketch in [first, second] {
            edit(&mut desired, &(1, Some(sketch.clone())));
            settle(&desired, &mut table, &mut maps);
            if restart {
                table = Table::restore(&maps.image(), ROOMY).0;
            }
            prop_assert_eq!(table.recall(&name), sketch.tables(&name));
        }
        prop_assert!(table.recall(&service(2)).is_empty());
    }

    /// To desire what is recalled is to leave the service as it is, also while others come and go.
    #[test]
    fn r6_to_desire_what_is_recalled_changes_nothing(edits in edits(1..8), which in owners()) {
        let (mut desired, mut table, mut maps) = (Desired::new(), Table::new(ROOMY), Maps::default());
        for change in &edits {
            let touched = edit(&mut desired, change);
            maps.apply(&diff(&desired, &touched, &mut table, Deletes::Allowed), |_| {});
            grace(&mut table);
        }
        settle(&desired, &mut table, &mut maps);
        let mut table = Table::restore(&maps.image(), ROOMY).0;
        let recalled = table.recall(&service(which));
        // Who was older, and what the younger one would like to have, the maps do not say.
        let name = service(which);
        let contested = desired.conflicts().any(|it| it.holder == name || it.waiting.contains(&name));
        if !contested {
            desired.set(&service(which), recalled, None);
            let plan = diff(&desired, &Touched::everything(), &mut table, Deletes::Held);
            prop_assert!(plan.phases.iter().all(|it| matches!(it, crate::Phase::Space(_))), "{:?}", plan);
        }
    }
}

#[test]
fn r12_r15_addresses_ranges_and_affinity_are_recalled() {
    let service = model::Service {
        external_ips: vec![ip("198.51.100.1")],
        load_balancer_ips: vec![ip("192.0.2.1"), ip("2001:db8::1")],
        source_ranges: ["10.1.7.0/24", "10.1.8.1/32", "fd00:1::/64"].map(|it| it.parse().unwrap()).into(),
        affinity_seconds: Some(600),
        external_policy: model::TrafficPolicy::Local,
        ..web()
    };
    let mut service = service;
    service.ports[0].node_port = 30_080;
    let tables = compiled(service, [slice("a", [endpoint("10.1.0.1", "there", READY)])]);
    assert_eq!(tables.frontends.len(), 12);
    let (mut desired, mut table) = (Desired::new(), Table::new(ROOMY));
    let touched = desired.set(&ObjectId::service(name()), tables.clone(), Some(1));
    let _ = diff(&desired, &touched, &mut table, Deletes::Allowed);
    let (table, found) = Table::restore(&table.image(), ROOMY);
    assert_eq!(found, []);
    assert_eq!(table.recall(&ObjectId::service(name())), tables);
}
