//! Every scenario on tables in memory: needs no root and no eBPF.

#![allow(clippy::unwrap_used)]

use anyhow::{Context, Result};
use balancing_tests::{
    feed::Direct,
    scenario::{Form, Scenario, play},
    world::MemoryWorld,
};

/// With many slots, and with so few that sockets are always in one another's way.
fn in_memory(scenario: &Scenario, form: Form) -> Result<()> {
    [1024, 2].into_iter().try_for_each(|slots| {
        let mut world = MemoryWorld::new(scenario.view(), slots, 1)?;
        play(&mut world, &mut Direct, scenario, form).with_context(|| format!("{slots} slots"))
    })
}

#[test]
fn scenarios() {
    Scenario::play_all(in_memory).unwrap();
}
