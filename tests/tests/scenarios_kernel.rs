//! Every scenario in the kernel, and beside it in memory: the two must decide the same, equally often.

#![allow(clippy::unwrap_used)]

use anyhow::{Context, Result, ensure};
use balancing_tests::{
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
    play(&mut kernel, scenario, form).context("in the kernel")?;
    let mut memory = MemoryWorld::new(scenario.view(), 1024, 1)?;
    play(&mut memory, scenario, form).context("in memory")?;
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
    let (mut failed, mut played, mut machine) = (Vec::new(), 0, None);
    let scenarios = Scenario::all().unwrap();
    for scenario in &scenarios {
        match scenario.forms().iter().try_for_each(|form| both(&mut machine, scenario, *form)) {
            Ok(()) => println!("scenario {} ... ok", scenario.name),
            Err(error) => {
                println!("scenario {} ... FAILED\n  {error:#}", scenario.name);
                failed.push(scenario.name.as_str());
            }
        }
        played += 1;
    }
    println!("kernel-scenarios: {played}");
    assert!(failed.is_empty(), "failed in the kernel: {failed:?}");
}
