//! Images that nobody could have written.

use abi::{Backend, Range, frontend::backend_flag::USABLE};
use model::Family;
use proptest::prelude::*;

use super::{
    maps::Maps,
    world::{PortSketch, ROOMY, Sketch, edit, edits, settle, vip},
};
use crate::{Deletes, Desired, Image, Phase, Table, Touched, diff, source_key};

#[derive(Clone, Debug)]
struct Blow {
    what: u8,
    which: prop::sample::Index,
    value: u32,
}

fn blows() -> impl Strategy<Value = Vec<Blow>> {
    let value = prop_oneof![0..12u32, 0..1000u32, any::<u32>()];
    let blow = (any::<u8>(), any::<prop::sample::Index>(), value);
    prop::collection::vec(blow.prop_map(|(what, which, value)| Blow { what, which, value }), 1..8)
}

fn pick<'a, T>(entries: &'a mut [T], which: &prop::sample::Index) -> Option<&'a mut T> {
    if entries.is_empty() { None } else { Some(which.get_mut(entries)) }
}

fn strike(image: &mut Image, Blow { what, which, value }: &Blow) {
    let (value, small) = (*value, (*value % 200) as u8);
    match what % 22 {
        0 => drop(pick(&mut image.frontends, which).map(|it| it.1 = value)),
        1 => drop(pick(&mut image.frontends, which).map(|it| it.0.endpoint.port_be = value as u16)),
        2 => drop(pick(&mut image.records, which).map(|it| it.1.local.start = value)),
        3 => drop(pick(&mut image.records, which).map(|it| it.1.local.len = value)),
        4 => drop(pick(&mut image.records, which).map(|it| it.1.service = value)),
        5 => drop(pick(&mut image.records, which).map(|it| it.1.port_be = value as u16)),
        6 => drop(pick(&mut image.records, which).map(|it| it.1.mode = small)),
        7 => drop(pick(&mut image.records, which).map(|it| it.1.pad[2] = value)),
        8 => drop(pick(&mut image.lists, which).map(|it| *it = value)),
        9 => drop(pick(&mut image.backends, which).map(|it| it.1.service = value)),
        10 => drop(pick(&mut image.backends, which).map(|it| it.1.flags = value as u16)),
        11 => drop(pick(&mut image.backends, which).map(|it| it.1.generation = value)),
        12 => drop(pick(&mut image.backends, which).map(|it| it.1.address.0[3] = value)),
        13 => drop(pick(&mut image.backends, which).map(|it| it.1.index = value)),
        14 => drop(pick(&mut image.names, which).map(|it| it.1.service[usize::from(small % 64)] = small)),
        15 => drop(pick(&mut image.names, which).map(|it| it.1.protocol = small)),
        16 => drop(pick(&mut image.names, which).map(|it| it.1.uid[0] = small)),
        17 if !image.names.is_empty() => drop(image.names.remove(which.index(image.names.len()))),
        18 if !image.backends.is_empty() => drop(image.backends.remove(which.index(image.backends.len()))),
        19 if !image.records.is_empty() => drop(image.records.remove(which.index(image.records.len()))),
        20 => image.lists.truncate(which.index(image.lists.len() + 1)),
        21 if !image.names.is_empty() => {
            let twin = which.get(&image.names).1;
            image.names.push((value % ROOMY.services, twin));
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_damaged_is_repaired(
        edits in edits(1..8),
        blows in blows(),
        first in prop_oneof![Just(Deletes::Held), Just(Deletes::Allowed)],
    ) {
        let (mut desired, mut table, mut maps) = (Desired::new(), Table::new(ROOMY), Maps::default());
        for change in &edits {
            let touched = edit(&mut desired, change);
            let plan = diff(&desired, &touched, &mut table, Deletes::Allowed);
            maps.apply(&plan, Maps::assert_sound);
        }
        let mut image = maps.image();
        for blow in &blows {
            strike(&mut image, blow);
        }
        let mut maps = Maps::of(&image);
        let image = maps.image();
        let (mut table, _) = Table::restore(&image, ROOMY);
        let plan = diff(&desired, &Touched::default(), &mut table, first);
        maps.apply(&plan, |_| {});
        // The maps may hold entries beyond their capacity only in this test.
        maps.names.retain(|id, _| *id < ROOMY.services);
        settle(&desired, &mut table, &mut maps);
    }

    #[test]
    fn any_rubbish_can_be_restored(
        seed in prop::collection::vec((any::<u32>(), any::<u32>(), any::<u8>()), 0..20),
        edits in edits(1..3),
    ) {
        let mut image = Image::default();
        for (a, b, c) in seed {
            let key = super::world::vip(model::Family::V4, c % 4, 80);
            let (start, len) = (a % 40, b % 40);
            image.frontends.push((key, a % 8));
            let service = b % 5;
            let record = abi::Record {
                address: key.endpoint.address,
                port_be: if c & 1 == 0 { key.endpoint.port_be } else { a as u16 },
                protocol: abi::TCP,
                service,
                local: abi::Range { start, len },
                ..abi::Record::default()
            };
            image.records.push((a % 8, record));
            image.lists.push(b % 20);
            let backend = abi::Backend {
                address: abi::Address([a % 3, 0, 0, b % 3]),
                flags: u16::from(c % 8),
                service,
                generation: u32::from(c % 3),
                ..abi::Backend::default()
            };
            image.backends.push((b % 16, backend));
        }
        let (mut table, _) = Table::restore(&image, ROOMY);
        let mut desired = Desired::new();
        for change in &edits {
            edit(&mut desired, change);
        }
        diff(&desired, &Touched::default(), &mut table, Deletes::Held);
        diff(&desired, &Touched::everything(), &mut table, Deletes::Allowed);
    }
}

/// Found by `what_is_damaged_is_repaired`: a good range under which a damaged one reaches kept that one's
/// backends from being retired.
#[test]
fn ranges_that_overlap_are_parted() {
    use super::world::{PortSketch, Sketch};
    let (mut desired, mut table, mut maps) = (Desired::new(), Table::new(ROOMY), Maps::default());
    edit(&mut desired, &(0, Some(Sketch::new("", [PortSketch::v4(80, 0, [1])]))));
    edit(&mut desired, &(1, Some(Sketch::new("", [PortSketch::v4(80, 1, [1, 2])]))));
    maps.apply(&diff(&desired, &Touched::everything(), &mut table, Deletes::Allowed), |_| {});
    let mut image = maps.image();
    image.records[1].1.local.start = 0;
    image.backends[1].1.address.0[3] = 0;
    let mut maps = Maps::of(&image);
    let (mut table, found) = Table::restore(&image, ROOMY);
    assert!(
        found.iter().any(|it| it.to_string() == "record 1: its backends at 0..2 overlap another's"),
        "{found:?}"
    );
    settle(&desired, &mut table, &mut maps);
}

#[test]
fn ranges_of_one_service_port_that_overlap_are_parted() {
    let cases = [(2..4, "record 2: its backends at 2..4"), (1..3, "record 1: its backends at 1..4")];
    for (range, expected) in cases {
        let (mut desired, mut table, mut maps) = (Desired::new(), Table::new(ROOMY), Maps::default());
        let two = PortSketch { vips: [1, 2].into(), ..PortSketch::v4(80, 1, [1, 2, 3]) };
        for (n, port) in [(0, PortSketch::v4(80, 0, [1])), (1, two), (2, PortSketch::v4(80, 3, [4, 5]))] {
            edit(&mut desired, &(n, Some(Sketch::new("", [port]))));
        }
        maps.apply(&diff(&desired, &Touched::everything(), &mut table, Deletes::Allowed), |_| {});
        // Both lead to 1..4.
        let local = Range { start: range.start, len: range.end - range.start };
        maps.records.get_mut(&2).unwrap().local = local;
        let (mut table, found) = Table::restore(&maps.image(), ROOMY);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, [format!("{expected} overlap another's")]);
        settle(&desired, &mut table, &mut maps);
    }
}

/// What is told of it, and what it is.
pub(super) type Damage<'a> = (&'a str, &'a dyn Fn(&mut Image));

#[test]
fn damage_is_named() {
    let mut desired = Desired::new();
    edit(&mut desired, &(0, Some(Sketch::new("u", [PortSketch::v4(80, 1, [1, 2])]))));
    let mut table = Table::new(ROOMY);
    let _ = diff(&desired, &Touched::everything(), &mut table, Deletes::Allowed);
    let good = table.image();
    let told = |change: &dyn Fn(&mut Image)| {
        let mut image = good.clone();
        change(&mut image);
        let (_, found) = Table::restore(&image, ROOMY);
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let cases: [Damage; _] = [
        ("", &|_| {}),
        ("name 100: id out of bounds", &|image| image.names.push((100, image.names[0].1))),
        ("name 99: same service port as name 0", &|image| image.names.push((99, image.names[0].1))),
        ("name 0: there twice", &|image| image.names.push(image.names[0])),
        ("name 0: unreadable", &|image| image.names[0].1.family = 5),
        ("name 0: unreadable", &|image| image.names[0].1.protocol = 5),
        ("name 0: unreadable", &|image| image.names[0].1.service[60] = b'x'),
        ("name 0: unreadable", &|image| image.names[0].1.uid[30] = b'x'),
        ("backend 400 (BACKEND live usable): index out of bounds", &|image| {
            image.backends.push((400, image.backends[0].1));
        }),
        ("", &|image| image.backends.push((399, Backend { flags: 0, ..image.backends[0].1 }))),
        ("backend 0 (BACKEND live usable): there twice", &|image| image.backends.push(image.backends[0])),
        ("backend 2 (BACKEND usable): not live, but has flags or padding", &|image| {
            image.backends.push((2, Backend { flags: USABLE, ..image.backends[0].1 }));
        }),
        ("backend 2 (BACKEND free): not live, but has flags or padding", &|image| {
            image.backends.push((2, Backend { flags: 0, index: 1, ..image.backends[0].1 }));
        }),
        ("backend 0 (BACKEND live usable): unknown flags or padding", &|image| {
            image.backends[0].1.flags |= 0x80;
        }),
        ("backend 0 (BACKEND live usable): unknown flags or padding", &|image| image.backends[0].1.index = 1),
        (
            "backend 1 (10.1.0.2:8080 of service 0, generation 0, live usable): live without a generation; \
             FRONTEND: 1 of its backends at 0..2 are no live backends of service port 0",
            &|image| image.backends[1].1.generation = 0,
        ),
        (
            "backend 1 (10.1.0.2:8080 of service 7, generation 1, live usable): its service port has no name; \
             FRONTEND: 1 of its backends at 0..2 are no live backends of service port 0",
            &|image| image.backends[1].1.service = 7,
        ),
        ("backend 1 (BACKEND live usable): same endpoint as backend 0", &|image| {
            image.backends[1].1.address = image.backends[0].1.address;
        }),
        ("FRONTEND: 1 of its backends at 0..2 are no live backends of service port 0", &|image| {
            image.backends[1].1.flags = 0;
        }),
        ("record 0: there twice", &|image| image.records.push(image.records[0])),
        ("FRONTEND: there twice", &|image| image.frontends.push(image.frontends[0])),
        ("FRONTEND: record 200 is out of bounds", &|image| image.frontends[0].1 = 200),
        ("", &|image| (image.frontends[0].1, image.records[0].0) = (199, 199)),
        ("FRONTEND: record 0 has padding", &|image| image.records[0].1.pad[0] = 1),
        ("FRONTEND: its record 0 is that of 10.96.0.1:81/TCP", &|image| {
            image.records[0].1.port_be = 81u16.to_be();
        }),
        (
            "FRONTEND: its service port 7 has no name; \
             FRONTEND: 2 of its backends at 0..2 are no live backends of service port 7",
            &|image| image.records[0].1.service = 7,
        ),
        ("FRONTEND: its backends at 0..3 are out of bounds", &|image| image.records[0].1.local.len = 3),
        ("FRONTEND: 1 of its backends at 0..2 are no live backends of service port 0", &|image| {
            image.lists[1] = 9;
        }),
        (
            "frontend 10.96.0.2:80/TCP: its record 0 is that of 10.96.0.1:80/TCP; \
             frontend 10.96.0.2:80/TCP: shares record 0 with another frontend",
            &|image| image.frontends.push((vip(Family::V4, 2, 80), 0)),
        ),
        ("source 10.1.0.0/16 of service 7: its service port 7 has no name", &|image| {
            image.sources.push(source_key(7, &"10.1.0.0/16".parse().unwrap()));
        }),
    ];
    for (expected, change) in cases {
        let expected = expected
            .replace("BACKEND", "10.1.0.1:8080 of service 0, generation 1,")
            .replace("FRONTEND", "frontend 10.96.0.1:80/TCP");
        assert_eq!(told(change), expected);
    }
    assert!(told(&|image| image.names.clear()).contains("its service port 0 has no name"));
}

/// Two services; their tables from what is left of the maps after this change; the maps, and as they were before.
fn renamed(uid: &str, change: impl Fn(&mut Image)) -> (Desired, Table, Maps, Maps) {
    use super::world::{PortSketch, Sketch};
    let (mut desired, mut table, mut maps) = (Desired::new(), Table::new(ROOMY), Maps::default());
    edit(&mut desired, &(0, Some(Sketch::new(uid, [PortSketch::v4(80, 0, [1])]))));
    edit(&mut desired, &(1, Some(Sketch::new(uid, [PortSketch::v4(80, 1, [2, 3])]))));
    maps.apply(&diff(&desired, &Touched::everything(), &mut table, Deletes::Allowed), |_| {});
    let before = maps.clone();
    let mut image = maps.image();
    change(&mut image);
    let (table, found) = Table::restore(&image, ROOMY);
    assert!(!found.is_empty());
    (desired, table, Maps::of(&image), before)
}

/// Sockets stay on a backend of their service port's id: it must be the one that its frontends use.
#[test]
fn r8_another_services_name_over_a_name_leaves_that_service_its_id() {
    use super::world::vip;
    for (uid, first) in [("", Deletes::Held), ("uid", Deletes::Held), ("", Deletes::Allowed)] {
        for wrong in 0..2usize {
            let (desired, mut table, mut maps, before) =
                renamed(uid, |image| image.names[wrong].1 = image.names[1 - wrong].1);
            maps.apply(&diff(&desired, &Touched::default(), &mut table, first), |_| {});
            settle(&desired, &mut table, &mut maps);
            let right = vip(model::Family::V4, 1 - wrong as u8, 80);
            let of = |maps: &Maps| {
                let record = maps.records[&maps.frontends[&right]];
                let live =
                    maps.backends.iter().filter(|(_, it)| it.service == record.service && it.flags != 0);
                (record.service, live.map(|(index, it)| (*index, *it)).collect::<Vec<_>>())
            };
            assert_eq!(of(&maps), of(&before), "{uid:?}, name {wrong} damaged");
        }
    }
}

#[test]
fn r8_other_names_of_a_service_port_take_nothing_from_the_first() {
    // Their ids are the least, their places in the map the first.
    let (desired, mut table, mut maps, before) = renamed("uid", |image| {
        let backend = |it: &mut (u32, abi::Backend)| it.1.service += 5;
        image.backends.iter_mut().for_each(backend);
        image.records.iter_mut().for_each(|it| it.1.service += 5);
        image.names.iter_mut().for_each(|it| it.0 += 5);
        let twin = image.names[1].1;
        let of_unknown_uid = abi::Name { uid: [0; 40], ..twin };
        image.names.splice(..0, [(0, twin), (1, of_unknown_uid)]);
    });
    let plan = diff(&desired, &Touched::default(), &mut table, Deletes::Allowed);
    assert_eq!(plan.phases, [crate::Phase::DeleteNames(vec![0, 1])]);
    maps.apply(&plan, |_| {});
    assert_eq!(maps.names.keys().copied().collect::<Vec<_>>(), [5, 6]);
    assert_eq!(maps.frontends, before.frontends);
    settle(&desired, &mut table, &mut maps);
}

#[test]
fn a_record_that_two_frontends_lead_to_stays_with_the_one_whose_it_is() {
    let (mut desired, mut table, mut maps) = (Desired::new(), Table::new(ROOMY), Maps::default());
    let touched = edit(&mut desired, &(0, Some(Sketch::new("", [PortSketch::v4(80, 1, [1])]))));
    maps.apply(&diff(&desired, &touched, &mut table, Deletes::Allowed), |_| {});
    let mut image = maps.image();
    let (rightful, record) = image.frontends[0];
    image.frontends.push((vip(Family::V4, 2, 80), record));
    let (mut table, found) = Table::restore(&image, ROOMY);
    assert_eq!(found.len(), 2, "not its own, and shared: {found:?}");
    let plan = diff(&desired, &Touched::everything(), &mut table, Deletes::Allowed);
    assert_eq!(plan.phases, [Phase::DeleteFrontends(vec![vip(Family::V4, 2, 80)])]);
    assert!(table.record(&rightful).is_some());
}

/// Found by a random history: the backend came back under its index, so that the list was right again, but not taken.
#[test]
fn a_list_whose_backends_come_back_is_no_room_for_another() {
    let (mut desired, mut table, mut maps) = (Desired::new(), Table::new(ROOMY), Maps::default());
    edit(&mut desired, &(0, Some(Sketch::new("", [PortSketch::v4(80, 0, [1])]))));
    maps.apply(&diff(&desired, &Touched::everything(), &mut table, Deletes::Allowed), |_| {});
    maps.backends.clear();
    (table, _) = Table::restore(&maps.image(), ROOMY);
    maps.apply(&diff(&desired, &Touched::default(), &mut table, Deletes::Allowed), |_| {});
    let touched = edit(&mut desired, &(1, Some(Sketch::new("", [PortSketch::v4(80, 1, [2])]))));
    maps.apply(&diff(&desired, &touched, &mut table, Deletes::Allowed), Maps::assert_sound);
}

/// Sockets that were on it have been told that it is gone.
#[test]
fn a_backend_that_is_not_live_any_more_is_not_revived() {
    let (mut desired, mut table, mut maps) = (Desired::new(), Table::new(ROOMY), Maps::default());
    edit(&mut desired, &(0, Some(Sketch::new("", [PortSketch::v4(80, 0, [1, 2])]))));
    maps.apply(&diff(&desired, &Touched::everything(), &mut table, Deletes::Allowed), |_| {});
    maps.backends.get_mut(&1).unwrap().flags = USABLE;
    (table, _) = Table::restore(&maps.image(), ROOMY);
    maps.apply(&diff(&desired, &Touched::default(), &mut table, Deletes::Allowed), |_| {});
    let record = maps.records[&maps.frontends[&vip(Family::V4, 0, 80)]];
    let listed: Vec<u32> = maps.list(&record).into_iter().map(|(index, _)| index).collect();
    assert_eq!(listed, [0, 2]);
    assert_eq!(maps.backends[&1].flags, 0);
}
