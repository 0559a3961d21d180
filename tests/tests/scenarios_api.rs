//! Every scenario on tables in memory, with objects that come from an API server by the agent's own source: in the end
//! the same is decided, equally often, as when they come as the text has them. None is left out.

#![allow(clippy::unwrap_used)]

use anyhow::{Context, Result, ensure};
use balancing_tests::{
    feed::{ApiServer, Direct},
    scenario::{Form, Scenario, play},
    world::{MemoryWorld, World},
};
use model::View;

fn both(scenario: &Scenario, form: Form) -> Result<()> {
    // In a cluster a controller resolves selectors.
    let view = View { resolve_selectors: false, ..scenario.view() };
    let mut followed = MemoryWorld::new(view, 1024, 1)?;
    let node = scenario.outside.is_none().then_some(&*scenario.node);
    play(&mut followed, &mut ApiServer::new(node)?, scenario, form).context("by an API server")?;
    let mut told = MemoryWorld::new(scenario.view(), 1024, 1)?;
    play(&mut told, &mut Direct, scenario, form).context("as the text has them")?;
    let (followed, told) = (followed.decisions()?, told.decisions()?);
    ensure!(
        followed == told,
        "decisions differ ({form:?})\n  by an API server: {followed:?}\n  as the text has them: {told:?}"
    );
    Ok(())
}

#[test]
fn scenarios() {
    let played = Scenario::play_all(both).unwrap();
    println!("api-scenarios: {played}");
}
