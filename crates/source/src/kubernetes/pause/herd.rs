//! Thousands of agents lose a server at the same moment: how their requests are spread when it is back.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use super::Pause;
use crate::kubernetes::resource::Resource;

/// Agents; each follows every resource by itself.
const AGENTS: usize = 5000;
/// What requests are counted in.
const TENTH: Duration = Duration::from_millis(100);
/// Requests of a follower until it watches again: how new is the server, and the watch.
const REQUESTS: usize = 2;

/// A server that has closed all connections at 0.
struct Server {
    /// Until then it refuses connections.
    down: Duration,
    /// Requests that it answers in a tenth of a second; to others it says 429, and to come back in a second.
    capacity: usize,
}

/// What it is asked.
#[derive(Debug, Default)]
struct Seen {
    /// Connections that it refused while it was down, by tenths of a second.
    refused: Vec<usize>,
    /// Requests from its return on, by tenths of a second.
    requests: Vec<usize>,
    /// Of these, how many it had no room for.
    turned_away: usize,
}

fn count(counts: &mut Vec<usize>, time: Duration) -> &mut usize {
    let index = (time.as_millis() / TENTH.as_millis()) as usize;
    counts.resize(counts.len().max(index + 1), 0);
    &mut counts[index]
}

/// Followers as [`super::super::follow`] has them: a pause after each failure.
fn run(server: &Server) -> Seen {
    let followers = AGENTS * Resource::all(Some("node-1")).len();
    let mut pauses: Vec<Pause> = (0..followers).map(|_| Pause::new()).collect();
    let mut due: BinaryHeap<_> = pauses
        .iter_mut()
        .enumerate()
        .map(|(index, pause)| Reverse((pause.after_failure(None), index)))
        .collect();
    let mut seen = Seen::default();
    while let Some(Reverse((now, index))) = due.pop() {
        let asked = if now < server.down {
            *count(&mut seen.refused, now) += 1;
            None
        } else {
            let requests = count(&mut seen.requests, now - server.down);
            if *requests + REQUESTS <= server.capacity {
                *requests += REQUESTS;
                continue;
            }
            *requests += 1;
            seen.turned_away += 1;
            Some(Duration::from_secs(1))
        };
        due.push(Reverse((now + pauses[index].after_failure(asked), index)));
    }
    seen
}

/// The most in a tenth of a second, as a part of all.
fn peak(counts: &[usize]) -> f64 {
    counts.iter().copied().max().unwrap_or_default() as f64 / counts.iter().sum::<usize>() as f64
}

#[test]
fn agents_that_lose_a_connection_together_do_not_come_back_together() {
    // As behind a load balancer: another server is there at once, and has all of them.
    let seen = run(&Server { down: Duration::ZERO, capacity: usize::MAX });
    assert!(seen.requests.len() <= 11, "{seen:?}");
    assert!(peak(&seen.requests) < 0.15, "{seen:?}");
}

#[test]
fn agents_that_wait_for_a_server_come_back_over_the_whole_of_a_pause() {
    let seen = run(&Server { down: Duration::from_secs(10), capacity: usize::MAX });
    // What was missed is to be right two seconds after its return.
    assert!(seen.requests.len() <= 16, "{seen:?}");
    assert!(peak(&seen.requests) < 0.12, "{seen:?}");
    // Nor do they knock all at the same time.
    let knocks = &seen.refused[50..];
    assert!(peak(knocks) < 1.5 / knocks.len() as f64, "{seen:?}");
}

#[test]
fn a_server_that_is_overrun_is_not_asked_again_and_again() {
    // 10,000 requests a second, where all want 80,000.
    let capacity = 1000;
    let seen = run(&Server { down: Duration::from_secs(10), capacity });
    let wanted = AGENTS * Resource::all(Some("node-1")).len();
    assert!(seen.turned_away < 5 * wanted / 2, "{} of {wanted}", seen.turned_away);
    // Twice as long as it takes at least; chance may turn a few away again and again.
    let most = 2 * wanted * REQUESTS / capacity;
    let late: usize = seen.requests.iter().skip(most).sum();
    assert!(late < wanted / 500 && seen.requests.len() < most * 3 / 2, "{seen:?}");
}
