//! Every scenario on tables in memory: needs no root and no eBPF.

#![allow(clippy::unwrap_used)]

use balancing_tests::{
    scenario::{Scenario, play},
    world::MemoryWorld,
};

#[test]
fn scenarios() {
    let mut failed = Vec::new();
    let scenarios = Scenario::all().unwrap();
    for scenario in &scenarios {
        for &form in scenario.forms() {
            // With many slots, and with so few that sockets are always in one another's way.
            for slots in [1024, 2] {
                let mut world = MemoryWorld::new(scenario.view(), slots, 1).unwrap();
                if let Err(error) = play(&mut world, scenario, form) {
                    println!("scenario {} ... FAILED\n  {slots} slots: {error:#}", scenario.name);
                    failed.push(scenario.name.as_str());
                }
            }
        }
        if !failed.contains(&scenario.name.as_str()) {
            println!("scenario {} ... ok", scenario.name);
        }
    }
    assert!(failed.is_empty(), "failed in memory: {failed:?}");
}
