//! Ids, indexes, records and ranges come back.

use std::collections::BTreeMap;

use abi::Range;
use model::Family;

use super::{
    maps::Maps,
    world::{PortSketch, ROOMY, Sketch, edit, grace, vip},
};
use crate::{Capacity, Deletes, Desired, Table, Touched, diff};

/// A cheap deterministic sequence; what it is does not matter.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn nothing_leaks_over_thousands_of_edits() {
    let capacity =
        Capacity { services: 8, backends: 40, lists: 40, records: 10, frontends4: 5, frontends6: 5, ..ROOMY };
    let (mut desired, mut table, mut maps) = (Desired::new(), Table::new(capacity), Maps::default());
    let mut state = 1;
    let mut refused = 0;
    for _ in 0..3000 {
        let n = (next(&mut state) % 4) as u8;
        let backends: Vec<u8> = (0..next(&mut state) % 12).map(|_| (next(&mut state) % 20) as u8).collect();
        let uid = ["", "a", "b"][(next(&mut state) % 3) as usize];
        let sketch = (!next(&mut state).is_multiple_of(5))
            .then(|| Sketch::new(uid, [PortSketch::v4(80, n, backends.clone()), PortSketch::v4(81, n, [1])]));
        let touched = edit(&mut desired, &(n, sketch));
        let plan = diff(&desired, &touched, &mut table, Deletes::Allowed);
        refused += plan.refused.len();
        maps.apply(&plan, |_| {});
        if next(&mut state).is_multiple_of(2) {
            grace(&mut table);
        }
    }
    maps.assert_sound();
    assert!(refused > 100, "room was never short: {refused}");

    for n in 0..4 {
        let touched = edit(&mut desired, &(n, None));
        diff(&desired, &touched, &mut table, Deletes::Allowed);
    }
    grace(&mut table);
    let nothing = Capacity {
        services: 0,
        backends: 0,
        lists: 0,
        records: 0,
        frontends4: 0,
        frontends6: 0,
        addresses4: 0,
        addresses6: 0,
        sources: 0,
    };
    assert_eq!(table.usage(), nothing);
    assert_eq!(table.quarantined(), 0);

    // All of the room can be had, in one piece.
    let touched = edit(&mut desired, &(0, Some(Sketch::new("", [PortSketch::v4(80, 0, 0..40)]))));
    assert_eq!(diff(&desired, &touched, &mut table, Deletes::Allowed).refused, []);
    assert_eq!(table.record(&vip(Family::V4, 0, 80)).map(|it| it.local), Some(Range { start: 0, len: 40 }));
    for n in 1..5 {
        let empty = |port| PortSketch { vips: [n].into(), ..PortSketch::v4(port, n, []) };
        edit(&mut desired, &(n, Some(Sketch::new("", [empty(80)]))));
    }
    let six =
        |port| PortSketch { family: Family::V6, vips: [1, 2, 3, 4, 5].into(), ..PortSketch::v4(port, 1, []) };
    edit(&mut desired, &(5, Some(Sketch::new("", [six(80)]))));
    let plan = diff(&desired, &Touched::everything(), &mut table, Deletes::Allowed);
    assert_eq!(plan.refused, []);
    // One frontend of each family is a node port, which has no address of its own.
    assert_eq!(table.usage(), Capacity { services: 6, addresses4: 4, addresses6: 4, sources: 0, ..capacity });
}

#[test]
fn backends_that_come_and_go_take_no_more_and_no_more_room() {
    let capacity = Capacity { backends: 5000, ..ROOMY };
    let (mut desired, mut table) = (Desired::new(), Table::new(capacity));
    let mut used_at: BTreeMap<u32, u32> = BTreeMap::new();
    for turn in 0..3000u32 {
        let backends = [(turn % 250) as u8, ((turn + 1) % 250) as u8];
        let touched = edit(&mut desired, &(0, Some(Sketch::new("", [PortSketch::v4(80, 0, backends)]))));
        assert_eq!(diff(&desired, &touched, &mut table, Deletes::Allowed).refused, []);
        grace(&mut table);
        let range = table.record(&vip(Family::V4, 0, 80)).map(|it| it.local).unwrap();
        for index in table.list(range).unwrap() {
            // It stays for two turns; then it rests while a thousand others come.
            let rested = used_at.insert(*index, turn).map_or(turn, |before| turn - before);
            assert!(rested == 1 || rested == turn || rested > 1000, "{index} came back after {rested} turns");
        }
    }
    // Two in use, 1024 at rest, and the one that comes back: 1027.
    assert_eq!(used_at.last_key_value().map(|(index, _)| *index), Some(1026));
}

/// A socket that remembers it would take another backend for its own.
#[test]
fn an_index_whose_generations_are_used_up_is_never_used_again() {
    let capacity = Capacity { backends: 2, ..ROOMY };
    let service = |backends: &[u8]| Some(Sketch::new("", [PortSketch::v4(80, 0, backends.iter().copied())]));
    let (mut desired, mut table, mut maps) = (Desired::new(), Table::new(capacity), Maps::default());
    let mut go_on = |table: &mut Table, maps: &mut Maps, backends: &[u8]| {
        let touched = edit(&mut desired, &(0, service(backends)));
        let plan = diff(&desired, &touched, table, Deletes::Allowed);
        maps.apply(&plan, Maps::assert_sound);
        grace(table);
        plan.refused.len()
    };
    go_on(&mut table, &mut maps, &[1]);
    maps.backends.get_mut(&0).unwrap().generation = u32::MAX;
    (table, _) = Table::restore(&maps.image(), capacity);
    assert_eq!(go_on(&mut table, &mut maps, &[]), 0);
    // Neither by this agent nor by the next.
    for _ in 0..2 {
        assert_eq!(go_on(&mut table, &mut maps, &[2, 3]), 1);
        assert_eq!(go_on(&mut table, &mut maps, &[]), 0);
        (table, _) = Table::restore(&maps.image(), capacity);
    }
}
