//! Every scenario in the kernel, and beside it in memory: the two must decide the same, equally often.

#![allow(clippy::unwrap_used)]

use anyhow::{Context, Result, ensure};
use balancing_tests::{
    feed::Direct,
    scenario::{Form, Scenario, play},
    world::{Decisions, KernelWorld, MemoryWorld, World},
};

/// Plays `scenario` on both. Loading programs takes longest: `machine` is used again unless something failed.
fn both(machine: &mut Option<KernelWorld>, scenario: &Scenario, form: Form) -> Result<()> {
    let mut kernel = match machine.take() {
        Some(mut kernel) => {
            kernel.machine().close_all();
            kernel.reset(scenario.view()).map(|()| kernel)
        }
        None => KernelWorld::new("scenarios", scenario.view()),
    }?;
    let before = kernel.decisions()?;
    play(&mut kernel, &mut Direct, scenario, form).context("in the kernel")?;
    let mut memory = MemoryWorld::new(scenario.view(), 1024, 1)?;
    play(&mut memory, &mut Direct, scenario, form).context("in memory")?;
    let (in_kernel, in_memory) = (since(&before, kernel.decisions()?), memory.decisions()?);
    ensure!(
        in_kernel == in_memory,
        "decisions differ ({form:?})\n  in the kernel: {in_kernel:?}\n  in memory: {in_memory:?}"
    );
    *machine = Some(kernel);
    Ok(())
}

fn since(before: &Decisions, after: Decisions) -> Decisions {
    let fresh = after.into_iter().map(|(what, times)| (what, times - before.get(&what).unwrap_or(&0)));
    fresh.filter(|(_, times)| *times > 0).collect()
}

#[test]
fn scenarios() {
    let mut machine = None;
    let played = Scenario::play_all(|scenario, form| both(&mut machine, scenario, form)).unwrap();
    println!("kernel-scenarios: {played}");
}
