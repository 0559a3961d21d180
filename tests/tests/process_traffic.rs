//! Traffic that nothing interrupts: not restarts, not new versions, not changes.

#![allow(clippy::unwrap_used)]

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use balancing_tests::process::{
    Dice, Host, next_program,
    population::{Population, Tally},
    program,
    roster::Roster,
    turmoil::{Restart, Restarted, Services, Until, restart},
};

/// Exchanges at least.
const EXCHANGES: u64 = 100_000;
/// Changes of endpoints.
const CHANGES: usize = 1_000;
/// Between two changes.
const PACE: Duration = Duration::from_millis(45);
/// Services; the first one's connections last.
const SERVICES: usize = 8;
/// Of the 84 sockets that live long, those that are sure to have a slot: others may have been there before.
const LASTING: usize = 60;
/// Threads with sockets that are used once.
const PASSERS_BY: u64 = 4;

fn seed() -> u64 {
    let given = std::env::var("BALANCING_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64)
}

/// Restarts in the order in which they come: the same version, another layout of maps, and back; some die
/// while they start, and one upgrade dies halfway and is taken back.
fn restarts(dice: &mut Dice) -> Vec<Restart> {
    let (same, next) = (program(), next_program());
    use Until::{Installing, Loading, Ready};
    let plan = [
        (&same, Ready),
        // Some die while they start.
        (&same, Loading),
        (&same, Installing),
        (&same, Ready),
        // An upgrade that dies, and the old version again.
        (&next, Installing),
        (&same, Ready),
        // An upgrade.
        (&next, Ready),
        (&next, Ready),
        // The way back dies, and is tried again.
        (&same, Installing),
        (&same, Ready),
        // So does another upgrade, twice.
        (&next, Installing),
        (&next, Installing),
        (&next, Ready),
        // The way back.
        (&same, Ready),
        (&same, Ready),
    ];
    let mut restarts: Vec<Restart> = Vec::new();
    for (program, until) in plan {
        let last = restarts.last().map_or(Ready, |last| last.until);
        restarts.push(Restart {
            program: program.clone(),
            after: match last {
                Loading => dice.millis(10, 700),
                Installing => dice.millis(0, 1_200),
                Ready => dice.millis(300, 4_000),
            },
            down: if last != Ready || dice.below(2) == 0 { Duration::ZERO } else { dice.millis(200, 1_000) },
            until,
        });
    }
    restarts
}

#[test]
fn r27_100_000_exchanges_over_restarts_replacements_and_changes() {
    let began = Instant::now();
    let seed = seed();
    println!("BALANCING_SEED={seed}");
    let mut dice = Dice::new(seed);
    let restarts = restarts(&mut dice);
    let host = Host::new("r27").unwrap();
    let (tally, roster) = (Arc::new(Tally::default()), Arc::new(Roster::default()));
    roster.down();
    let mut services = Services::new(&host, &roster, SERVICES).unwrap();
    let agent = host.agent(&[]).unwrap();
    roster.up();

    let population = Population { tally: tally.clone(), roster: roster.clone(), services: SERVICES };
    let mut clients = vec![
        population.connected(&host, 6).unwrap(),
        population.unconnected(&host, seed ^ 1).unwrap(),
        population.unconnected(&host, seed ^ 2).unwrap(),
    ];
    for number in 0..PASSERS_BY {
        clients.push(population.passers_by(&host, seed ^ (16 + number)).unwrap());
    }
    // Those that last are open before anything is removed.
    testkit::wait::until(Duration::from_secs(20), "the first exchanges", || {
        tally.lasting.load(SeqCst) > 1_000 || tally.over.load(SeqCst)
    });

    let outcome = thread::scope(|scope| {
        let restarting = scope.spawn(|| restart(&host, &roster, &tally.over, agent, &restarts));
        let mut due = Instant::now();
        while !tally.over.load(SeqCst) {
            services.close();
            if services.changes < CHANGES {
                services.change(&mut dice).unwrap();
            } else if restarting.is_finished() && tally.exchanges.load(SeqCst) >= EXCHANGES {
                break;
            }
            due += PACE;
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        restarting.join().unwrap()
    });
    tally.over.store(true, SeqCst);
    for client in clients {
        client.join().unwrap();
    }
    let Restarted { mut agent, slowest, carried } = outcome.unwrap();

    let judgement = roster.judge();
    let failures = tally.failures();
    println!(
        "{} exchanges ({} by lasting sockets, {} moves), {} restarts, sockets carried to another layout: {carried:?}, \
         {} changes, failures={}, change -> effect at most {:?} (added: {:?}), slowest start {slowest:?}, {:?} in all",
        tally.exchanges.load(SeqCst),
        tally.lasting.load(SeqCst),
        tally.moved.load(SeqCst),
        restarts.len(),
        services.changes,
        failures.len(),
        judgement.removal,
        judgement.addition,
        began.elapsed(),
    );
    let log = agent.log();
    assert!(failures.is_empty(), "{failures:#?}\nagent down: {:?}\n{log}", roster.outages());
    assert!(judgement.late.is_empty(), "{:#?}\n{log}", judgement.late);
    let status = agent.wait_ready().unwrap();
    assert_eq!((status.problems, status.audit_differences), (vec![], 0), "{log}");
    // Those that live long were there each time; an attempt that died may have carried some of them before.
    let whole = carried.iter().filter(|(sockets, _)| *sockets >= LASTING).count();
    assert!(whole >= 2, "too few sockets were carried over: {carried:?}");
    assert!(tally.moved.load(SeqCst) > 0, "no unconnected socket has lost its backend");
}
