//! Sequences of what an agent can live through, made from bytes: services come, change and go, plans are applied whole
//! or up to any write, agents start anew from what the maps hold, and somebody tampers with the maps.
//!
//! Also run by the fuzz target `plan`.

use std::collections::BTreeMap;

use model::Family;

use super::{
    maps::{Maps, Reader},
    world::{PortSketch, ROOMY, Sketch, edit, grace, intent, meaning, settle},
};
use crate::{Capacity, Deletes, Desired, Image, Plan, Table, Touched, diff};

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// A plan that was not empty was applied.
    pub plans: u32,
    /// One was applied in part only, and another agent went on from there.
    pub crashes: u32,
    /// There was no room for something.
    pub refused: u32,
    /// Two services claimed one frontend.
    pub conflicts: u32,
    /// The maps were damaged, and it was noticed.
    pub damages: u32,
}

const SERVICES: u8 = 4;
/// Bytes of one step.
const STEP: usize = 12;
/// No longer than this, or too much is in quarantine at once.
const STEPS: usize = 64;

struct Agent {
    capacity: Capacity,
    desired: Desired,
    /// What `desired` is made of.
    sketches: BTreeMap<u8, Sketch>,
    touched: Touched,
    table: Table,
    maps: Maps,
    /// Those that have looked up a frontend since the last grace period.
    readers: Vec<Reader>,
    tally: Tally,
}

/// Runs the sequence that `bytes` describe: a byte for the size of the maps, then twelve for each step.
///
/// # Panics
/// Something did not hold.
pub(super) fn run(bytes: &[u8]) -> Tally {
    let Some((room, steps)) = bytes.split_first() else { return Tally::default() };
    let mut agent = Agent::new(capacity(*room));
    for step in steps.chunks_exact(STEP).take(STEPS) {
        agent.step(step);
        agent.tally.conflicts += agent.desired.conflicts().count() as u32;
    }
    agent.end();
    agent.tally
}

/// Every other one is roomy.
fn capacity(room: u8) -> Capacity {
    if room.is_multiple_of(2) {
        return ROOMY;
    }
    let room = u32::from(room / 2 % 12) + 1;
    let mut capacity = ROOMY;
    (capacity.services, capacity.records) = (1 + room / 2, room);
    (capacity.backends, capacity.lists) = (room * 2, room * 2);
    (capacity.frontends4, capacity.frontends6) = (room / 2, room / 2);
    capacity
}

/// A service of one or two ports, each in four bytes.
fn sketch(bytes: &[u8]) -> Sketch {
    let uid = ["", "uid-a", "uid-b", ""][usize::from(bytes[0] & 3)];
    let created = [None, Some(0), Some(1), Some(2)][usize::from(bytes[0] >> 2 & 3)];
    let ports = bytes[1..].chunks_exact(4).enumerate().filter(|(n, it)| *n == 0 || it[0] & 0x80 != 0);
    let ports = ports.map(|(n, it)| {
        let vips = (0..5).filter(|vip| it[0] >> vip & 1 != 0).collect();
        let backends = (0..8).filter(|n| it[1] >> n & 1 != 0);
        PortSketch {
            family: if it[0] & 0x20 == 0 { Family::V4 } else { Family::V6 },
            vips,
            backends: backends.map(|n| (n, (it[2] >> n & 1 != 0, it[3] >> n & 1 != 0))).collect(),
            // Often the same in several services.
            ..PortSketch::v4(80 + 2 * n as u16 + u16::from(it[0] >> 6 & 1), 0, [])
        }
    });
    Sketch { created, ..Sketch::new(uid, ports) }
}

impl Agent {
    fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            desired: Desired::new(),
            sketches: BTreeMap::new(),
            touched: Touched::default(),
            table: Table::new(capacity),
            maps: Maps::default(),
            readers: Vec::new(),
            tally: Tally::default(),
        }
    }

    fn step(&mut self, step: &[u8]) {
        let (what, argument) = (step[0], &step[1..]);
        let deletes = if what & 0x10 == 0 { Deletes::Allowed } else { Deletes::Held };
        let service = (what >> 5) % SERVICES;
        match what & 0xf {
            0..=5 => {
                self.edit(service, Some(sketch(argument)));
                self.round(deletes);
            }
            // More comes before the next plan.
            6 => self.edit(service, Some(sketch(argument))),
            7 => {
                self.edit(service, None);
                self.round(deletes);
            }
            8 => self.edit(service, None),
            9 => self.round(deletes),
            10 | 11 => {
                grace(&mut self.table);
                self.readers.clear();
            }
            12 | 13 => self.crash(usize::from(argument[0]), deletes),
            14 => {
                self.touched = Touched::everything();
                self.round(deletes);
            }
            _ => self.damage(argument, deletes),
        }
    }

    fn edit(&mut self, service: u8, sketch: Option<Sketch>) {
        self.touched.merge(edit(&mut self.desired, &(service, sketch.clone())));
        match sketch {
            Some(sketch) => self.sketches.insert(service, sketch),
            None => self.sketches.remove(&service),
        };
    }

    fn plan(&mut self, deletes: Deletes) -> Plan {
        let plan = diff(&self.desired, &self.touched, &mut self.table, deletes);
        self.touched = Touched::default();
        self.tally.plans += u32::from(!plan.is_empty());
        self.tally.refused += u32::from(!plan.refused.is_empty());
        plan
    }

    /// A plan is applied whole; after each write the maps are sound, and whoever reads is undisturbed.
    fn round(&mut self, deletes: Deletes) {
        self.readers.extend(self.maps.readers());
        let plan = self.plan(deletes);
        let readers = &self.readers;
        let check = |maps: &Maps| {
            maps.assert_sound();
            readers.iter().for_each(|reader| maps.assert_undisturbed(reader));
        };
        self.maps.apply(&plan, check);
        assert_eq!(self.table.compare(&self.maps.image()), []);
        let (used, room) = (self.table.usage(), self.capacity);
        assert!(used.services <= room.services && used.backends <= room.backends, "{used:?}");
        assert!(used.lists <= room.lists && used.records <= room.records, "{used:?}");
        assert!(used.frontends4 <= room.frontends4 && used.frontends6 <= room.frontends6, "{used:?}");
        // What a deleted frontend leaves is free at once: a refused one may take it.
        let again = diff(&self.desired, &Touched::default(), &mut self.table, deletes);
        assert!(again.is_empty() || !plan.refused.is_empty(), "{again:?} after {plan:?}");
        self.maps.apply(&again, check);
    }

    /// The agent ends after some writes of a plan, and the next one takes over.
    fn crash(&mut self, writes: usize, deletes: Deletes) {
        let plan = self.plan(deletes);
        let mut prefixes = vec![self.maps.clone()];
        self.maps.apply(&plan, |maps| {
            maps.assert_sound();
            prefixes.push(maps.clone());
        });
        let stopped = writes % prefixes.len();
        self.maps = prefixes.swap_remove(stopped);
        assert_eq!(self.restart(), 0, "found damage that nobody did");
        self.tally.crashes += 1;
    }

    /// Takes over what the maps hold; how much was wrong with it. Nobody reads any more (see `restore`).
    fn restart(&mut self) -> usize {
        let found;
        (self.table, found) = Table::restore(&self.maps.image(), self.capacity);
        self.readers.clear();
        self.touched = Touched::default();
        found.len()
    }

    /// Somebody tampers with the maps. Where there is room, all is as it should be after the next plans.
    fn damage(&mut self, blows: &[u8], deletes: Deletes) {
        if self.capacity != ROOMY {
            return;
        }
        let mut image = self.maps.image();
        for blow in blows.chunks_exact(3) {
            strike(&mut image, blow[0], usize::from(blow[1]), blow[2]);
        }
        self.maps = Maps::of(&image);
        self.tally.damages += u32::from(self.restart() > 0);
        let plan = self.plan(deletes);
        self.maps.apply(&plan, |_| {});
        settle(&self.desired, &mut self.table, &mut self.maps);
    }

    /// What is desired in the end is what is there, whatever came before.
    fn end(&mut self) {
        // In another order, and without what came before.
        let mut fresh = Desired::new();
        for (service, sketch) in self.sketches.iter().rev() {
            edit(&mut fresh, &(*service, Some(sketch.clone())));
        }
        assert!(self.desired.frontends().eq(fresh.frontends()));
        assert!(self.desired.conflicts().eq(fresh.conflicts()));
        if self.capacity == ROOMY {
            settle(&self.desired, &mut self.table, &mut self.maps);
            let (mut table, mut scratch) = (Table::new(ROOMY), Maps::default());
            let plan = diff(&fresh, &Touched::everything(), &mut table, Deletes::Allowed);
            scratch.apply(&plan, Maps::assert_sound);
            assert_eq!(meaning(&self.maps), meaning(&scratch));
            assert_eq!(meaning(&scratch), intent(&fresh));
            assert_eq!(self.restart(), 0, "found damage that nobody did");
            let plan = self.plan(Deletes::Allowed);
            assert!(plan.is_empty(), "{plan:?}");
        }
    }
}

/// Changes one thing in an image: a small number here, a large one there.
fn strike(image: &mut Image, what: u8, which: usize, value: u8) {
    fn pick<T>(entries: &mut [T], which: usize) -> Option<&mut T> {
        let len = entries.len();
        entries.get_mut(which.checked_rem(len)?)
    }
    fn remove<T>(entries: &mut Vec<T>, which: usize) {
        if let Some(at) = which.checked_rem(entries.len()) {
            entries.remove(at);
        }
    }
    let number = if value < 128 { u32::from(value) } else { u32::MAX - u32::from(value - 128) };
    let Image { frontends, records, lists, backends, names, .. } = image;
    match what % 22 {
        0 => drop(pick(frontends, which).map(|it| it.1 = number)),
        1 => drop(pick(frontends, which).map(|it| it.0.endpoint.port_be = number as u16)),
        2 => drop(pick(records, which).map(|it| it.1.local.start = number)),
        3 => drop(pick(records, which).map(|it| it.1.local.len = number)),
        4 => drop(pick(records, which).map(|it| it.1.service = number)),
        5 => drop(pick(records, which).map(|it| it.1.port_be = number as u16)),
        6 => drop(pick(records, which).map(|it| it.1.mode = value)),
        7 => drop(pick(records, which).map(|it| it.1.flags = number)),
        8 => drop(pick(lists, which).map(|it| *it = number)),
        9 => drop(pick(backends, which).map(|it| it.1.service = number)),
        10 => drop(pick(backends, which).map(|it| it.1.flags = number as u16)),
        11 => drop(pick(backends, which).map(|it| it.1.generation = number)),
        12 => drop(pick(backends, which).map(|it| it.1.address.0[3] = number)),
        13 => drop(pick(backends, which).map(|it| it.1.index = number)),
        14 => drop(pick(names, which).map(|it| it.1.service[usize::from(value % 64)] = value)),
        15 => drop(pick(names, which).map(|it| it.1.protocol = value)),
        16 => drop(pick(names, which).map(|it| it.1.uid[0] = value)),
        17 => remove(names, which),
        18 => remove(backends, which),
        19 => remove(records, which),
        20 => lists.truncate(which),
        _ => {
            if let Some((_, twin)) = pick(names, which).copied() {
                names.push((number % ROOMY.services, twin));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, strategy::ValueTree};

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn r6_r27_whatever_an_agent_lives_through_the_maps_are_sound_and_become_what_is_desired(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            run(&bytes);
        }
    }

    /// The harness itself: it would be no test if nothing ever happened.
    #[test]
    fn the_sequences_do_something() {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let bytes = prop::collection::vec(any::<u8>(), 300..400);
        let mut total = Tally::default();
        for _ in 0..40 {
            let tally = run(&bytes.new_tree(&mut runner).unwrap().current());
            total.plans += tally.plans;
            total.crashes += tally.crashes;
            total.refused += tally.refused;
            total.conflicts += tally.conflicts;
            total.damages += tally.damages;
        }
        let Tally { plans, crashes, refused, conflicts, damages } = total;
        let least = [plans, crashes, refused, conflicts, damages].into_iter().min();
        assert!(least > Some(10), "{total:?}");
    }
}
