//! P1, P5, P9: what is above and below on one frontend, and in which order it is written.

use abi::frontend::{level, mode};
use model::Family;

use super::{
    maps::Maps,
    world::{PortSketch, ROOMY, Sketch, edit, grace, settle, vip},
};
use crate::{Capacity, Deletes, Desired, Plan, Table, Touched, diff};

/// Numbers of [`super::world::service`].
const SERVICE: u8 = 1;
const REDIRECT: u8 = 200;
const BALANCING: u8 = 202;

struct World {
    desired: Desired,
    table: Table,
    maps: Maps,
    /// Modes that the levels had at each single write.
    seen: Vec<[Option<u8>; 3]>,
}

fn claims(backend: u8) -> Option<Sketch> {
    Some(Sketch::new("", [PortSketch::v4(80, 1, [backend])]))
}

fn modes(maps: &Maps) -> [Option<u8>; 3] {
    let key = vip(Family::V4, 1, 80);
    [level::FIRST, level::BALANCING, level::SERVICE]
        .map(|level| maps.frontends.get(&key.at(level)).map(|index| maps.records[index].mode))
}

impl World {
    fn new(capacity: Capacity) -> Self {
        Self { desired: Desired::new(), table: Table::new(capacity), maps: Maps::default(), seen: Vec::new() }
    }

    /// Edits, and the plan of that, applied write by write.
    fn edit(&mut self, owner: u8, sketch: Option<Sketch>, deletes: Deletes) -> Plan {
        let touched = edit(&mut self.desired, &(owner, sketch));
        let plan = diff(&self.desired, &touched, &mut self.table, deletes);
        self.seen = vec![modes(&self.maps)];
        let Self { maps, seen, .. } = self;
        maps.apply(&plan, |maps| {
            maps.assert_sound();
            seen.push(modes(maps));
        });
        self.seen.dedup();
        grace(&mut self.table);
        plan
    }
}

const S: Option<u8> = Some(mode::CLUSTER_IP);
const B: Option<u8> = Some(mode::BALANCING);
const L: Option<u8> = Some(mode::LOCAL_REDIRECT);

#[test]
fn p1_a_local_redirect_is_above_a_balancing_policy_and_that_above_the_service() {
    let mut world = World::new(ROOMY);
    let mut steps = Vec::new();
    for (owner, there) in [
        (SERVICE, true),
        (BALANCING, true),
        (REDIRECT, true),
        (BALANCING, false),
        (SERVICE, false),
        (BALANCING, true),
        (REDIRECT, false),
        (SERVICE, true),
        (BALANCING, false),
    ] {
        world.edit(owner, claims(owner).filter(|_| there), Deletes::Allowed);
        steps.push(*world.seen.last().unwrap());
        settle(&world.desired, &mut world.table, &mut world.maps);
        assert_eq!(world.desired.conflicts().count(), 0, "they are no rivals");
    }
    let expected = [
        [S, None, None],
        [B, None, S],
        [L, B, S],
        [L, None, S],
        [L, None, None],
        [L, B, None],
        [B, None, None],
        [B, None, S],
        [S, None, None],
    ];
    assert_eq!(steps, expected);
}

#[test]
fn p5_at_no_moment_is_a_policy_above_nothing_that_was_there() {
    let mut world = World::new(ROOMY);
    world.edit(SERVICE, claims(1), Deletes::Allowed);
    world.edit(REDIRECT, claims(2), Deletes::Allowed);
    // First what is below, then the policy.
    assert_eq!(world.seen, [[S, None, None], [S, None, S], [L, None, S]]);
    world.edit(BALANCING, claims(3), Deletes::Allowed);
    assert_eq!(world.seen, [[L, None, S], [L, B, S]]);
    // P9: whoever goes, the next decides at once; what nobody falls back to any more goes afterwards.
    world.edit(REDIRECT, None, Deletes::Allowed);
    assert_eq!(world.seen, [[L, B, S], [B, B, S], [B, None, S]]);
    world.edit(BALANCING, None, Deletes::Held);
    assert_eq!(world.seen, [[B, None, S], [S, None, S]]);
    let plan = diff(&world.desired, &Touched::default(), &mut world.table, Deletes::Allowed);
    world.maps.apply(&plan, |_| {});
    assert_eq!(modes(&world.maps), [S, None, None]);
}

#[test]
fn p5_r30_where_there_is_no_room_for_what_is_below_a_policy_waits() {
    let mut world = World::new(Capacity { frontends4: 1, ..ROOMY });
    world.edit(SERVICE, claims(1), Deletes::Allowed);
    let plan = world.edit(REDIRECT, claims(2), Deletes::Allowed);
    assert_eq!(plan.refused.len(), 1, "{:?}", plan.refused);
    assert_eq!(modes(&world.maps), [S, None, None], "the service goes on");
    // Alone it needs no more than the service did.
    world.edit(SERVICE, None, Deletes::Allowed);
    let plan = diff(&world.desired, &Touched::everything(), &mut world.table, Deletes::Allowed);
    world.maps.apply(&plan, |_| {});
    assert_eq!(modes(&world.maps), [L, None, None]);
}

#[test]
fn p5_r30_what_a_policy_falls_back_to_stays_while_the_policy_can_not_be_taken_away() {
    let mut world = World::new(Capacity { records: 3, ..ROOMY });
    world.edit(SERVICE, claims(1), Deletes::Allowed);
    world.edit(REDIRECT, claims(2), Deletes::Allowed);
    world.edit(2, Some(Sketch::new("", [PortSketch::v4(80, 2, [1])])), Deletes::Allowed);
    assert_eq!(modes(&world.maps), [L, None, S]);
    // The switch needs a record more than there is.
    let plan = world.edit(REDIRECT, None, Deletes::Allowed);
    assert_eq!(plan.refused.len(), 1, "{:?}", plan.refused);
    assert_eq!(modes(&world.maps), [L, None, S]);
    world.edit(2, None, Deletes::Allowed);
    let plan = diff(&world.desired, &Touched::default(), &mut world.table, Deletes::Allowed);
    world.maps.apply(&plan, Maps::assert_sound);
    assert_eq!(modes(&world.maps), [S, None, None]);
}

#[test]
fn p1_of_two_policies_of_one_kind_the_older_keeps_the_frontend() {
    let aged = |created| Some(Sketch { created, ..claims(1).unwrap() });
    let mut desired = Desired::new();
    edit(&mut desired, &(200, aged(Some(2))));
    edit(&mut desired, &(201, aged(Some(1))));
    edit(&mut desired, &(202, aged(Some(0))));
    edit(&mut desired, &(SERVICE, aged(Some(0))));
    let names = |id: &model::ObjectId| id.to_string();
    let conflicts: Vec<_> = desired.conflicts().collect();
    assert_eq!(conflicts.len(), 1);
    assert_eq!(names(&conflicts[0].holder), "LocalRedirectPolicy s201");
    assert_eq!(conflicts[0].waiting.iter().map(names).collect::<Vec<_>>(), ["LocalRedirectPolicy s200"]);
    let holder =
        |desired: &Desired| desired.frontend(&vip(Family::V4, 1, 80)).unwrap().port.service.name.clone();
    assert_eq!(holder(&desired), "s201");
    edit(&mut desired, &(201, None));
    assert_eq!(holder(&desired), "s200");
    assert_eq!(desired.conflicts().count(), 0);
}
