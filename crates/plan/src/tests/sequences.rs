//! Random sequences of desired states.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{
    maps::{Maps, Reader},
    world::{ROOMY, edit, edits, grace, intent, meaning},
};
use crate::{Capacity, Deletes, Desired, Image, Plan, Refusal, Room, Table, Touched, diff};

/// Applies edits as the agent does, checks every prefix of every plan, and returns the result.
fn run(edits: &[(super::world::Edit, u8)], capacity: Capacity) -> (Desired, Table, Maps) {
    let (mut desired, mut table, mut maps) = (Desired::new(), Table::new(capacity), Maps::default());
    let mut readers: Vec<Reader> = Vec::new();
    for (change, chance) in edits {
        let deletes = if chance % 4 == 0 { Deletes::Held } else { Deletes::Allowed };
        let touched = edit(&mut desired, change);
        readers.extend(maps.readers());
        let check = |maps: &Maps| {
            maps.assert_sound();
            for reader in &readers {
                maps.assert_undisturbed(reader);
            }
        };
        let plan = diff(&desired, &touched, &mut table, deletes);
        maps.apply(&plan, check);
        assert_eq!(table.compare(&maps.image()), []);
        // What a deleted frontend leaves is free at once: a refused one may take it.
        let again = diff(&desired, &touched, &mut table, deletes);
        assert!(again.is_empty() || !plan.refused.is_empty(), "{again:?} after {plan:?}");
        maps.apply(&again, check);
        if chance % 3 == 0 {
            grace(&mut table);
            readers.clear();
        }
    }
    (desired, table, maps)
}

/// An image without the order in which it was made, nor what no frontend leads to.
fn relevant(table: &Table) -> Image {
    let mut image = table.image();
    image.lists.clear();
    image
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_prefix_of_every_plan_is_safe(edits in prop::collection::vec((edits(1), any::<u8>()), 1..20)) {
        let edits: Vec<_> = edits.into_iter().filter_map(|(mut e, c)| Some((e.pop()?, c))).collect();
        let (desired, mut table, mut maps) = run(&edits, ROOMY);
        let plan = diff(&desired, &Touched::default(), &mut table, Deletes::Allowed);
        prop_assert_eq!(&plan.refused, &[]);
        maps.apply(&plan, Maps::assert_sound);
        prop_assert_eq!(meaning(&maps), intent(&desired));
        let everything = diff(&desired, &Touched::everything(), &mut table, Deletes::Allowed);
        prop_assert_eq!(everything, Plan::default());
    }

    #[test]
    fn prefixes_are_safe_where_room_is_short(
        edits in prop::collection::vec((edits(1), any::<u8>()), 1..20),
        room in 1..12u32,
    ) {
        let edits: Vec<_> = edits.into_iter().filter_map(|(mut e, c)| Some((e.pop()?, c))).collect();
        let capacity = Capacity {
            services: 1 + room / 2,
            backends: room * 2,
            lists: room * 2,
            records: room,
            frontends4: room / 2,
            frontends6: room / 2,
            addresses4: room / 3,
            addresses6: room / 3,
            sources: room / 2,
        };
        let (desired, mut table, mut maps) = run(&edits, capacity);
        let used = table.usage();
        prop_assert!(used.services <= capacity.services && used.backends <= capacity.backends);
        prop_assert!(used.lists <= capacity.lists && used.records <= capacity.records);
        prop_assert!(used.frontends4 <= capacity.frontends4 && used.frontends6 <= capacity.frontends6);
        prop_assert!(used.addresses4 <= capacity.addresses4 && used.addresses6 <= capacity.addresses6);
        prop_assert!(used.sources <= capacity.sources);
        let (restored, found) = Table::restore(&maps.image(), capacity);
        prop_assert_eq!(found, []);
        prop_assert_eq!(restored.usage(), used);

        // R30: and all is well once they have grown, with what was there left where it is. As the agent does it: first to
        // what is needed, then where something is refused, as what goes makes room only after what comes.
        let most = Capacity::new(|_| u32::MAX);
        let mut refused = BTreeSet::new();
        for _ in 0..4 {
            let larger = table.capacity().grown(&desired.need(), |room| refused.contains(&room), &most);
            if let Some(larger) = larger {
                table.enlarge(&larger);
                prop_assert_eq!(table.capacity(), larger);
            }
            grace(&mut table);
            let plan = diff(&desired, &Touched::default(), &mut table, Deletes::Allowed);
            maps.apply(&plan, Maps::assert_sound);
            refused = plan.refused.iter().filter_map(Refusal::room).collect();
        }
        prop_assert!(refused.is_empty(), "{refused:?}");
        prop_assert_eq!(meaning(&maps), intent(&desired));
    }

    #[test]
    fn r30_what_is_needed_is_never_less_than_what_is_used(edits in edits(1..20)) {
        let changes: Vec<_> = edits.into_iter().map(|edit| (edit, 1)).collect();
        let (desired, ..) = run(&changes, ROOMY);
        let mut table = Table::new(ROOMY);
        diff(&desired, &Touched::everything(), &mut table, Deletes::Allowed);
        let (need, used) = (desired.need(), table.usage());
        for room in Room::ALL {
            prop_assert!(used.of(room) <= need.of(room), "{room}: {used:?} of {need:?}");
        }
        prop_assert_eq!((used.services, used.backends), (need.services, need.backends));
        prop_assert_eq!(need.frontends4 + need.frontends6, need.records);
    }

    #[test]
    fn incremental_is_from_scratch(edits in edits(1..20)) {
        let changes: Vec<_> = edits.into_iter().map(|edit| (edit, 1)).collect();
        let (desired, _, maps) = run(&changes, ROOMY);

        // The last edit of each service, in another order.
        let mut fresh = Desired::new();
        let mut seen = std::collections::BTreeSet::new();
        for (change, _) in changes.iter().rev() {
            if seen.insert(change.0) {
                edit(&mut fresh, change);
            }
        }
        let ours: Vec<_> = desired.frontends().collect();
        prop_assert_eq!(ours, fresh.frontends().collect::<Vec<_>>());
        let conflicts: Vec<_> = desired.conflicts().collect();
        prop_assert_eq!(conflicts, fresh.conflicts().collect::<Vec<_>>());

        let (mut table, mut scratch) = (Table::new(ROOMY), Maps::default());
        let plan = diff(&fresh, &Touched::everything(), &mut table, Deletes::Allowed);
        scratch.apply(&plan, Maps::assert_sound);
        prop_assert_eq!(meaning(&maps), meaning(&scratch));

        // The same input, the same plan.
        let mut second = Table::new(ROOMY);
        prop_assert_eq!(diff(&desired, &Touched::everything(), &mut second, Deletes::Allowed), plan);
    }

    #[test]
    fn a_restored_table_is_the_table(edits in prop::collection::vec((edits(1), any::<u8>()), 1..16)) {
        let edits: Vec<_> = edits.into_iter().filter_map(|(mut e, c)| Some((e.pop()?, c))).collect();
        let (desired, mut table, mut maps) = run(&edits, ROOMY);
        let (mut restored, found) = Table::restore(&maps.image(), ROOMY);
        prop_assert_eq!(found, []);
        prop_assert_eq!(restored.usage(), table.usage());
        prop_assert_eq!(relevant(&restored), relevant(&table));
        prop_assert_eq!(restored.compare(&maps.image()), []);

        // What was held back, the restored table finds as well. (Not always by the same ids: which of two uids
        // is the old one it can't know if the source knows no uid.)
        let plan = diff(&desired, &Touched::default(), &mut table, Deletes::Allowed);
        let same = diff(&desired, &Touched::default(), &mut restored, Deletes::Allowed);
        let mut twin = maps.clone();
        twin.apply(&same, Maps::assert_sound);
        maps.apply(&plan, Maps::assert_sound);
        prop_assert_eq!(meaning(&twin), intent(&desired));
        prop_assert_eq!(meaning(&maps), intent(&desired));

        let (mut restored, found) = Table::restore(&maps.image(), ROOMY);
        prop_assert_eq!(found, []);
        let plan = diff(&desired, &Touched::default(), &mut restored, Deletes::Allowed);
        prop_assert_eq!(plan, Plan::default());
    }

    #[test]
    fn an_interrupted_plan_is_finished_after_restore(
        edits in edits(2..10),
        stop in any::<prop::sample::Index>(),
    ) {
        let (last, before) = edits.split_last().expect("at least two");
        let changes: Vec<_> = before.iter().map(|edit| (edit.clone(), 1)).collect();
        let (mut desired, mut table, mut maps) = run(&changes, ROOMY);
        grace(&mut table);
        let touched = edit(&mut desired, last);
        let plan = diff(&desired, &touched, &mut table, Deletes::Allowed);
        let mut prefixes = vec![maps.clone()];
        maps.apply(&plan, |maps| prefixes.push(maps.clone()));
        let mut crashed = stop.get(&prefixes).clone();
        let (mut restored, found) = Table::restore(&crashed.image(), ROOMY);
        prop_assert_eq!(found, []);
        let plan = diff(&desired, &Touched::default(), &mut restored, Deletes::Allowed);
        crashed.apply(&plan, Maps::assert_sound);
        prop_assert_eq!(meaning(&crashed), intent(&desired));
    }
}
