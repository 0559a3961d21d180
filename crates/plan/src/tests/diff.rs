//! What single changes cost.

use abi::{Name, Range, frontend::backend_flag::LIVE};
use model::Family;

use super::{
    maps::Maps,
    world::{PortSketch, ROOMY, Sketch, edit, grace, service, vip},
};
use crate::{Capacity, Deletes, Desired, Phase, Plan, Refusal, Room, Subject, Table, Touched, diff};

/// Desired state, table and maps, moved on together.
struct World {
    desired: Desired,
    table: Table,
    maps: Maps,
}

impl World {
    fn new(capacity: Capacity) -> Self {
        Self { desired: Desired::new(), table: Table::new(capacity), maps: Maps::default() }
    }

    fn with(&mut self, n: u8, sketch: Option<Sketch>, deletes: Deletes) -> Plan {
        let touched = edit(&mut self.desired, &(n, sketch));
        let plan = diff(&self.desired, &touched, &mut self.table, deletes);
        self.maps.apply(&plan, Maps::assert_sound);
        plan
    }

    fn set(&mut self, n: u8, sketch: Sketch) -> Plan {
        self.with(n, Some(sketch), Deletes::Allowed)
    }

    fn again(&mut self) -> Plan {
        let plan = diff(&self.desired, &Touched::default(), &mut self.table, Deletes::Allowed);
        self.maps.apply(&plan, Maps::assert_sound);
        plan
    }

    fn range(&self, key: &abi::Key) -> Range {
        self.table.record(key).expect("there").local
    }
}

fn kinds(plan: &Plan) -> Vec<&'static str> {
    plan.phases.iter().map(Phase::name).collect()
}

fn simple(backends: impl IntoIterator<Item = u8>) -> Sketch {
    Sketch::new("", [PortSketch::v4(80, 1, backends)])
}

#[test]
fn phases_come_in_the_order_that_is_safe() {
    let mut world = World::new(ROOMY);
    let plan = world.set(0, simple([1, 2]));
    assert_eq!(kinds(&plan), ["names", "backends", "lists", "records", "frontends", "addresses", "space"]);
    assert_eq!(
        plan.to_string(),
        "1 names, 2 backends, 2 lists, 1 records, 1 frontends, 1 addresses, 1 space"
    );
    assert_eq!(plan.len(), 9);
    let plan = world.set(0, simple([1]));
    assert_eq!(kinds(&plan), ["lists", "records", "frontends", "retired backends"]);
    let plan = world.with(0, None, Deletes::Allowed);
    let gone = ["space", "deleted frontends", "deleted addresses", "retired backends", "deleted names"];
    assert_eq!(kinds(&plan), gone);
    let lines: Vec<String> = plan.phases.iter().flat_map(Phase::lines).collect();
    assert_eq!(
        lines,
        [
            "space: no node ports",
            "delete frontend 10.96.0.1:80/TCP",
            "delete address 10.96.0.1",
            "retire backend 0: 10.1.0.1:8080 of service 0, generation 1, free",
            "delete name 0"
        ]
    );
    assert_eq!(Plan::default().to_string(), "nothing to write");
}

#[test]
fn frontends_of_a_service_port_share_their_list() {
    let mut world = World::new(ROOMY);
    let mut port = PortSketch::v4(80, 1, [1, 2]);
    port.vips = [1, 2].into();
    let plan = world.set(0, Sketch::new("", [port.clone()]));
    assert_eq!(kinds(&plan), ["names", "backends", "lists", "records", "frontends", "addresses", "space"]);
    let (one, two) = (vip(Family::V4, 1, 80), vip(Family::V4, 2, 80));
    assert_eq!(world.range(&one), world.range(&two));
    assert_eq!(world.table.usage().lists, 2);
    // Another frontend costs a record.
    port.vips = [1, 2, 3].into();
    assert_eq!(kinds(&world.set(0, Sketch::new("", [port.clone()]))), ["records", "frontends", "addresses"]);
    // The list stays while one of them is left.
    port.vips = [3].into();
    world.set(0, Sketch::new("", [port]));
    grace(&mut world.table);
    assert_eq!(world.table.usage().lists, 2);
    world.set(1, Sketch::new("", [PortSketch::v4(81, 5, [7])]));
    assert_eq!(world.range(&vip(Family::V4, 5, 81)).start, 2);
}

#[test]
fn a_backend_that_changes_flags_changes_in_place() {
    let mut world = World::new(ROOMY);
    world.set(0, simple([1, 2]));
    let mut port = PortSketch::v4(80, 1, [1, 2]);
    port.backends.insert(2, (false, true));
    let plan = world.set(0, Sketch::new("", [port]));
    assert_eq!(kinds(&plan), ["backends"]);
    assert_eq!(plan.len(), 1);
}

#[test]
fn r4_a_usable_backend_stays_when_it_is_no_longer_selected() {
    let mut world = World::new(ROOMY);
    world.set(0, simple([1, 2]));
    let mut port = PortSketch::v4(80, 1, [1, 2]);
    port.backends.insert(2, (true, false));
    let plan = world.set(0, Sketch::new("", [port]));
    assert_eq!(kinds(&plan), ["lists", "records", "frontends"]);
    assert_eq!(world.table.usage().backends, 2);
}

#[test]
fn a_recreated_service_inherits_nothing() {
    let mut world = World::new(ROOMY);
    let sketch = |uid| Sketch::new(uid, [PortSketch::v4(80, 1, [1])]);
    world.set(0, sketch("old"));
    // The uid becomes known, or unknown: the same service.
    assert!(world.set(0, sketch("")).is_empty());
    assert!(world.set(0, sketch("old")).is_empty());
    let plan = world.set(0, sketch("new"));
    assert_eq!(
        kinds(&plan),
        ["names", "backends", "lists", "records", "frontends", "retired backends", "deleted names"]
    );
    let record = world.table.record(&vip(Family::V4, 1, 80)).expect("there");
    assert_eq!(record.service, 1);
    assert_eq!(world.table.list(record.local), Some(&[1][..]));
}

#[test]
fn a_uid_that_becomes_known_is_written_down() {
    let mut world = World::new(ROOMY);
    world.set(0, Sketch::new("", [PortSketch::v4(80, 1, [1])]));
    let plan = world.set(0, Sketch::new("u", [PortSketch::v4(80, 1, [1])]));
    assert_eq!(kinds(&plan), ["names"]);
}

#[test]
fn r6_deletes_are_held_back() {
    let mut world = World::new(ROOMY);
    world.set(0, simple([1, 2]));
    world.set(1, Sketch::new("", [PortSketch::v4(80, 2, [3])]));
    // An update is no delete: the list changes, the backend stays.
    let plan = world.with(0, Some(simple([1])), Deletes::Held);
    assert_eq!(kinds(&plan), ["lists", "records", "frontends"]);
    assert!(world.with(1, None, Deletes::Held).is_empty());
    assert_eq!(world.table.usage().backends, 3);
    // It comes back while deletes are held: as if it had never gone.
    assert!(world.with(1, Some(Sketch::new("", [PortSketch::v4(80, 2, [3])])), Deletes::Held).is_empty());
    assert!(world.with(1, None, Deletes::Held).is_empty());
    let plan = world.again();
    let gone = ["space", "deleted frontends", "deleted addresses", "retired backends", "deleted names"];
    assert_eq!(kinds(&plan), gone);
    assert_eq!(world.table.usage().backends, 1);
    assert!(world.again().is_empty());
}

#[test]
fn indexes_come_back_late_and_with_another_generation() {
    let mut world = World::new(Capacity { backends: 4, ..ROOMY });
    world.set(0, simple([1, 2, 3]));
    world.set(0, simple([1]));
    grace(&mut world.table);
    // Index 3 has never been used; then the one freed first.
    world.set(0, simple([1, 4]));
    assert_eq!(world.table.backend(3).map(|it| it.generation), Some(1));
    world.set(0, simple([1, 4, 5]));
    let reused = world.table.backend(1).expect("there");
    assert_eq!((reused.generation, reused.flags & LIVE), (2, LIVE));
    assert_eq!(world.table.backend(2).map(|it| (it.generation, it.flags)), Some((1, 0)));
    // A restored table knows the generations.
    let (restored, _) = Table::restore(&world.maps.image(), Capacity { backends: 4, ..ROOMY });
    world.table = restored;
    world.set(0, simple([1, 4, 5, 6]));
    assert_eq!(world.table.backend(2).map(|it| it.generation), Some(2));
}

#[test]
fn nothing_is_reused_before_a_grace_period_that_began_later() {
    let mut world = World::new(Capacity { lists: 4, ..ROOMY });
    world.set(0, simple([1, 2]));
    let early = world.table.begin_grace();
    world.set(0, simple([2, 3]));
    let freed = world.table.quarantined();
    assert!(freed > 0);
    world.table.grace_passed(early);
    assert_eq!(world.table.quarantined(), freed);
    let plan = world.set(0, simple([3, 4]));
    assert!(matches!(plan.refused[..], [Refusal::Full { room: Room::Lists, .. }]));
    grace(&mut world.table);
    assert_eq!(kinds(&world.again()), ["lists", "records", "frontends", "retired backends"]);
    assert_eq!(world.range(&vip(Family::V4, 1, 80)).start, 0);
}

#[test]
fn the_id_of_a_service_that_is_gone_is_anothers_only_when_what_bears_it_was_read() {
    let mut world = World::new(Capacity { services: 2, ..ROOMY });
    let sketch = |vip| Sketch::new("", [PortSketch::v4(80, vip, [vip])]);
    let named = |world: &World, id| world.table.name(id).map(|name| Name::text(&name.service).to_owned());
    let gone = service(0).name.name.clone();
    world.set(0, sketch(1));
    world.with(0, None, Deletes::Allowed);
    let early = world.table.begin_reading();
    world.set(1, sketch(2));
    assert_eq!(named(&world, 0), Some(gone.clone()), "for what was told before");
    assert_eq!(named(&world, 1), Some(service(1).name.name.clone()));
    let period = world.table.begin_grace();
    world.table.grace_passed(period);
    let plan = world.set(2, sketch(3));
    assert!(matches!(plan.refused[..], [Refusal::Full { room: Room::Services, .. }]), "nobody has read it");

    // The mirror is read again.
    let (restored, _) = Table::restore(&world.maps.image(), world.table.capacity());
    let before = std::mem::replace(&mut world.table, restored);
    world.table.rest_on(before);
    assert_eq!((named(&world, 0), world.table.resting()), (Some(gone), 1));
    assert_eq!(world.again().refused.len(), 1, "it still rests");
    world.table.has_read(early);
    assert_eq!((world.table.resting(), world.again().refused.len()), (0, 0));
    assert_eq!(named(&world, 0), Some(service(2).name.name.clone()));

    // Freed after the reading began: not by that one.
    let early = world.table.begin_reading();
    world.with(2, None, Deletes::Allowed);
    world.table.has_read(early);
    assert_eq!(world.table.resting(), 1);
}

#[test]
fn names_that_do_not_fit_are_refused() {
    let mut world = World::new(ROOMY);
    world.set(1, Sketch::new("", [PortSketch::v4(80, 1, [1])]));
    let plan = world.set(0, Sketch::new(&"u".repeat(41), [PortSketch::v4(80, 2, [1])]));
    // That the address is a service's is known all the same.
    assert_eq!(kinds(&plan), ["addresses", "space"]);
    let [refusal] = &plan.refused[..] else { panic!("{plan:?}") };
    assert_eq!(refusal.room(), None);
    assert_eq!(refusal.to_string(), "the uid of default/s0:p80/TCP IPv4 is longer than 40 bytes");
    assert!(!world.set(0, Sketch::new("u", [PortSketch::v4(80, 2, [1])])).is_empty());
}

#[test]
fn r30_what_does_not_fit_is_named_and_programmed_when_there_is_room() {
    let cases = [
        (Room::Services, Capacity { services: 1, ..ROOMY }),
        (Room::Backends, Capacity { backends: 2, ..ROOMY }),
        (Room::Lists, Capacity { lists: 2, ..ROOMY }),
        (Room::Records, Capacity { records: 1, ..ROOMY }),
        (Room::Frontends4, Capacity { frontends4: 1, ..ROOMY }),
    ];
    for (room, capacity) in cases {
        let mut world = World::new(capacity);
        assert_eq!(world.set(0, simple([1, 2])).refused, []);
        let plan = world.set(1, Sketch::new("", [PortSketch::v4(80, 2, [3])]));
        let full: Vec<Option<Room>> = plan.refused.iter().map(Refusal::room).collect();
        assert_eq!(full, [Some(room)]);
        assert!(!world.table.has_frontend(&vip(Family::V4, 2, 80)));
        // It does not stop others, nor is it forgotten.
        assert_eq!(world.again().refused, plan.refused);
        assert!(world.again().is_empty());
        // Flags change in place, whatever is full.
        let mut port = PortSketch::v4(80, 1, [1, 2]);
        port.backends.insert(1, (false, true));
        assert_eq!(kinds(&world.set(0, Sketch::new("", [port]))), ["backends"]);
        world.with(0, None, Deletes::Allowed);
        grace(&mut world.table);
        assert_eq!(world.again().refused, [], "{room}");
        assert!(world.table.has_frontend(&vip(Family::V4, 2, 80)), "{room}");
    }
}

#[test]
fn r30_backends_that_fit_are_used() {
    let mut world = World::new(Capacity { backends: 2, ..ROOMY });
    let plan = world.set(0, simple([1, 2, 3, 4]));
    let [Refusal::Full { room: Room::Backends, capacity: 2, subject }] = &plan.refused[..] else {
        panic!("{plan:?}")
    };
    assert!(matches!(subject, Subject::Backends { count: 2, .. }));
    assert_eq!(
        plan.refused[0].to_string(),
        "backends full (2 entries): 2 backends of default/s0:p80/TCP IPv4 (first 10.1.0.3:8080) can't be \
         programmed; raise the capacity of backends"
    );
    assert_eq!(world.range(&vip(Family::V4, 1, 80)).len, 2);
}

#[test]
fn r13_a_gone_service_makes_room_for_its_successor() {
    let mut world = World::new(Capacity { services: 1, ..ROOMY });
    let sketch = |uid| Sketch::new(uid, [PortSketch::v4(80, 1, [1])]);
    world.set(0, sketch("old"));
    let plan = world.set(0, sketch("new"));
    assert_eq!(kinds(&plan), ["deleted frontends", "retired backends", "deleted names"]);
    grace(&mut world.table);
    assert_eq!(world.again().refused, []);
    assert!(world.table.has_frontend(&vip(Family::V4, 1, 80)));
}

#[test]
fn a_change_costs_its_own_service_only() {
    let mut world = World::new(ROOMY);
    for n in 0..20 {
        world.set(n, Sketch::new("", [PortSketch::v4(80, n, [1, 2, 3])]));
    }
    let touched = edit(&mut world.desired, &(7, Some(Sketch::new("", [PortSketch::v4(80, 7, [1, 2])]))));
    assert_eq!((touched.keys.len(), touched.addresses.len()), (1, 0));
    assert!(touched.ports.iter().all(|port| port.owner() == service(7)));
    let plan = diff(&world.desired, &touched, &mut world.table, Deletes::Allowed);
    assert_eq!(plan.len(), 2 + 1 + 1 + 1);
}

#[test]
fn r23_a_plan_says_when_affinity_ends() {
    let mut world = World::new(ROOMY);
    let with = |vip, affinity| Sketch::new("", [PortSketch { affinity, ..PortSketch::v4(80, vip, [1]) }]);
    for (affinity, ends) in [(0, false), (10_800, false), (60, false), (0, true), (0, false), (60, false)] {
        assert_eq!(world.set(0, with(1, affinity)).ends_affinity, ends, "{affinity}");
    }
    // Both change, and one of them ends it.
    world.set(1, with(2, 60));
    edit(&mut world.desired, &(0, Some(with(1, 0))));
    edit(&mut world.desired, &(1, Some(with(2, 10_800))));
    let plan = diff(&world.desired, &Touched::everything(), &mut world.table, Deletes::Allowed);
    world.maps.apply(&plan, Maps::assert_sound);
    assert!(plan.ends_affinity);
    assert_eq!(world.table.affinities(), [(1, 10_800)].into());
    // That a service goes ends its own, once it may go.
    assert!(!world.with(0, None, Deletes::Allowed).ends_affinity);
    assert!(!world.with(1, None, Deletes::Held).ends_affinity);
    assert!(world.again().ends_affinity);
}

#[test]
fn r22_r30_source_ranges_fit_up_to_the_last() {
    let mut world = World::new(Capacity { sources: 2, ..ROOMY });
    let restricted = |n, ranges: &[u8]| {
        let (vips, sources) = ([n, 3].into(), ranges.iter().copied().collect());
        Sketch::new("", [PortSketch { vips, sources, ..PortSketch::v4(80 + u16::from(n), n, [1]) }])
    };
    assert!(!world.table.has_sources());
    assert_eq!(world.set(0, restricted(1, &[1, 2])).refused, []);
    assert!(world.table.has_sources());
    assert!(world.table.has_frontend(&vip(Family::V4, 3, 81)));
    let plan = world.set(0, restricted(1, &[1, 2, 3]));
    assert!(matches!(plan.refused[..], [Refusal::Full { room: Room::Sources, capacity: 2, .. }]), "{plan:?}");
    // Of another one the cluster IP, which is for everybody, needs no range.
    assert!(!world.set(1, restricted(2, &[1])).refused.is_empty());
    assert!(world.table.has_frontend(&vip(Family::V4, 2, 82)));
    assert!(!world.table.has_frontend(&vip(Family::V4, 3, 82)));
}

#[test]
fn r22_r30_a_restricted_frontend_that_can_not_change_keeps_those_that_may_use_it() {
    let mut world = World::new(Capacity { sources: 2, ..ROOMY });
    let restricted = |vips: &[u8], ranges: &[u8]| {
        let (vips, sources) = (vips.iter().copied().collect(), ranges.iter().copied().collect());
        Sketch::new("", [PortSketch { vips, sources, ..PortSketch::v4(80, 1, [1]) }])
    };
    // VIP 3 is for some only.
    world.set(0, restricted(&[3], &[1]));
    // Its successor waits for the VIP, and finds no room for its ranges.
    assert!(!world.set(1, restricted(&[3], &[1, 2])).refused.is_empty());
    let plan = world.set(0, restricted(&[], &[]));
    assert!(!plan.refused.is_empty());
    assert_eq!(world.maps.sources.len(), 1, "nobody could use it: {plan:?}");
    world.table.enlarge(&ROOMY);
    assert_eq!(world.again().refused, []);
    world.again();
    assert_eq!(world.maps.sources.len(), 2, "those of the successor");
}

#[test]
fn r30_addresses_of_a_family_fit_up_to_the_last() {
    let mut world = World::new(Capacity { addresses4: 2, addresses6: 1, ..ROOMY });
    let service = |family, vip| Sketch::new("", [PortSketch { family, ..PortSketch::v4(80, vip, [1]) }]);
    for (n, family) in [(0, Family::V4), (1, Family::V4), (2, Family::V6)] {
        assert_eq!(world.set(n, service(family, n)).refused, []);
    }
    for (family, full) in [(Family::V4, Room::Addresses4), (Family::V6, Room::Addresses6)] {
        let plan = world.set(3, service(family, 3));
        assert_eq!(plan.refused.iter().map(Refusal::room).collect::<Vec<_>>(), [Some(full)]);
    }
}

#[test]
fn r30_enlarged_lists_have_as_much_room_as_there_is() {
    let mut world = World::new(Capacity { lists: 2, ..ROOMY });
    assert_eq!(world.set(0, simple([1, 2])).refused, []);
    let service = |vip, backends: &[u8]| Sketch::new("", [PortSketch::v4(80, vip, backends.iter().copied())]);
    assert!(!world.set(1, service(2, &[1, 2])).refused.is_empty());
    world.table.enlarge(&Capacity { lists: 5, ..ROOMY });
    assert_eq!(world.again().refused, []);
    assert_eq!(world.range(&vip(Family::V4, 2, 80)), Range { start: 2, len: 2 });
    assert_eq!(world.set(2, service(3, &[1])).refused, []);
    let plan = world.set(3, service(4, &[1]));
    assert!(matches!(plan.refused[..], [Refusal::Full { room: Room::Lists, capacity: 5, .. }]), "{plan:?}");
}
