//! Random scenarios, in the kernel and in memory side by side: the same verdicts, the same candidates.
//!
//! `BALANCING_SCENARIO_SEED` repeats one run, `BALANCING_SCENARIOS` says how many.

#![allow(clippy::unwrap_used)]

mod agree;
mod both;
mod destinations;
mod events;
mod known;
mod services;

use std::{collections::BTreeMap, time::Instant};

use abi::Reason;
use anyhow::Result;
use balancing_tests::{
    random::Random,
    world::{KernelWorld, MemoryWorld, World},
};
use host::NetworkNamespace;
use model::View;

use self::{both::Both, events::Event, known::Known};

const CHANGES: u64 = 3;
/// What scenarios must come to, if there are many.
const MET: [Reason; 12] = [
    Reason::Balanced,
    Reason::NotAService,
    Reason::NoEndpoints,
    Reason::NoLocalEndpoint,
    Reason::UnknownPort,
    Reason::UnusedAddress,
    Reason::ForeignService,
    Reason::RemoteNodePort,
    Reason::SourceRange,
    Reason::UnknownClient,
    Reason::Excluded,
    Reason::Affinity,
];

fn view(adopts: bool) -> View {
    View {
        node: "n1".into(),
        proxy_name: adopts.then(|| "other".into()),
        resolve_selectors: true,
        ..View::default()
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[test]
fn random_scenarios() {
    let first = number("BALANCING_SCENARIO_SEED").unwrap_or_else(Random::seed);
    let count = number("BALANCING_SCENARIOS").unwrap_or(200);
    println!("BALANCING_SCENARIO_SEED={first} ({count} scenarios)");
    let mut kernel = KernelWorld::new("random", view(false)).unwrap();
    let netns = kernel.machine().run(NetworkNamespace::own).unwrap().cookie.unwrap_or_default();
    let begun = Instant::now();
    let (mut exchanges, mut met) = (0, BTreeMap::new());
    for seed in (first..).take(count as usize) {
        let mut random = Random::new(seed);
        let mut known = Known { adopts: random.one_in(6), ..Known::default() };
        let mut memory = MemoryWorld::new(view(known.adopts), 4, seed as u32).unwrap();
        kernel.reset(view(known.adopts)).unwrap();
        memory.sync().unwrap();
        let mut both = Both::new(&mut kernel, &mut memory, netns, std::mem::take(&mut met));
        let mut played = Vec::new();
        let mut play = || -> Result<()> {
            played = known.random_start(&mut random);
            both.apply_all(&played, random.one_in(8))?;
            both.compare(&known, &mut random)?;
            for _ in 0..CHANGES {
                let event = known.random_event(&mut random);
                played.push(event);
                both.apply(played.last().unwrap())?;
                both.compare(&known, &mut random)?;
            }
            if random.one_in(20) {
                both.restart(&played, &known, &mut random)?;
            }
            Ok(())
        };
        let outcome = play();
        exchanges += both.exchanges;
        met = both.met;
        if let Err(error) = outcome {
            played.iter().for_each(Event::print);
            panic!("BALANCING_SCENARIO_SEED={seed}: {error:#}");
        }
    }
    println!("{count} scenarios, {exchanges} exchanges each way, {:?}, decided: {met:?}", begun.elapsed());
    if count >= 100 {
        let missing: Vec<Reason> =
            MET.into_iter().filter(|reason| !met.contains_key(reason.name())).collect();
        assert!(missing.is_empty(), "never met: {missing:?}");
    }
}
