extern crate std;

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    thread,
    time::Instant,
    vec::Vec,
};

use super::*;

const MILLI: u64 = 1_000_000;

fn ring() -> std::boxed::Box<Limit> {
    std::boxed::Box::default()
}

/// How many of `count` at one time are taken.
fn burst(ring: &Limit, limit: u32, count: u32, now: u64) -> u32 {
    (0..count).filter(|_| take(ring, limit, now)).count() as u32
}

#[test]
fn p6_a_burst_takes_the_limit_and_no_more_until_a_second_is_over() {
    for limit in [1, 2, 7, 999, 1000] {
        let ring = ring();
        let start = 5 * SECOND;
        assert_eq!(burst(&ring, limit, 3 * limit, start), limit, "{limit}");
        assert_eq!(burst(&ring, limit, 3, start + SECOND - MILLI), 0, "{limit}");
        assert_eq!(taken(&ring, limit, start + SECOND - MILLI), u64::from(limit));
        assert_eq!(taken(&ring, limit, start + SECOND + MILLI), 0);
        assert_eq!(burst(&ring, limit, 3 * limit, start + SECOND + MILLI), limit, "{limit}");
    }
}

#[test]
fn p6_each_connection_makes_room_a_second_after_it_was() {
    let ring = ring();
    assert_eq!(burst(&ring, 4, 1, SECOND), 1);
    assert_eq!(burst(&ring, 4, 2, SECOND + 300 * MILLI), 2);
    assert_eq!(burst(&ring, 4, 9, SECOND + 600 * MILLI), 1);
    assert_eq!(burst(&ring, 4, 9, 2 * SECOND + MILLI), 1);
    assert_eq!(burst(&ring, 4, 9, 2 * SECOND + 301 * MILLI), 2);
    assert_eq!(burst(&ring, 4, 9, 2 * SECOND + 601 * MILLI), 1);
}

/// Most that were taken in any second.
fn most_in_a_second(times: &[u64]) -> usize {
    let mut window = VecDeque::new();
    let mut most = 0;
    for time in times {
        window.push_back(*time);
        while window.front().is_some_and(|first| time - first >= SECOND) {
            window.pop_front();
        }
        most = most.max(window.len());
    }
    most
}

/// Steady, too fast, in waves: as much as may be, and no more.
#[test]
fn p6_no_second_has_more_and_a_steady_stream_gets_what_it_may() {
    for limit in [1u32, 3, 100, 1000, 1001, 1999, 2500, 20_000, 1_000_000] {
        for factor in [1u64, 3] {
            let ring = ring();
            let step = SECOND / (u64::from(limit) * factor);
            let (start, end) = (SECOND, 4 * SECOND);
            let all = (0u64..).map(|n| start + n * step.max(1)).take_while(|now| *now < end);
            let times: Vec<u64> = all.filter(|now| take(&ring, limit, *now)).collect();
            let most = most_in_a_second(&times);
            assert!(most <= limit as usize, "{limit} x{factor}: {most}");
            let fair = 3 * u64::from(limit);
            let got = times.len() as u64;
            assert!(got * 100 >= fair * 99 - 100, "{limit} x{factor}: {got} of {fair}");
        }
    }
}

#[test]
fn p6_what_has_no_limit_or_more_than_can_be_counted_is_taken() {
    assert!(take(&ring(), 0, SECOND));
    assert!(take(&ring(), u32::MAX, SECOND));
}

/// Threads as fast as they can: in no second more than the limit, and 99 % of it.
#[test]
fn p6_it_is_exact_on_many_cpus() {
    const LIMIT: u32 = 1000;
    const THREADS: usize = 8;
    let ring = ring();
    let begun = Instant::now();
    let stop = AtomicBool::new(false);
    let asked = AtomicU64::new(0);
    let mut times: Vec<u64> = thread::scope(|scope| {
        let work = || {
            let mut taken = Vec::new();
            while !stop.load(SeqCst) {
                let now = SECOND + begun.elapsed().as_nanos() as u64;
                asked.fetch_add(1, SeqCst);
                if take(&ring, LIMIT, now) {
                    taken.push(now);
                }
            }
            taken
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        thread::sleep(std::time::Duration::from_millis(2_500));
        stop.store(true, SeqCst);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    times.sort_unstable();
    assert!(asked.load(SeqCst) > 100_000);
    // Times were taken before the place was: threads that are preempted between make neighbours of seconds that are not.
    let most = most_in_a_second(&times);
    assert!(most <= LIMIT as usize + LIMIT as usize / 100, "{most}");
    // The first second's at once, the others' as they become free.
    let fair = LIMIT as usize * 3;
    assert!(times.len() * 100 >= fair * 99, "{} of {fair}", times.len());
}
