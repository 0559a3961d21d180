//! Many short rounds, all cases in turn, so that whatever else happens on the machine happens to all of them.

use std::time::{Duration, Instant};

use anyhow::Result;
use kernel::{
    HOOKS,
    yardstick::{Work, Yardstick},
};

use crate::{
    arena::Arena,
    operation::{Case, Dice, Family, Operation},
};

/// How long one round shall take.
const ROUND: Duration = Duration::from_micros(1000);

/// One case, and what each of its rounds gave.
#[derive(Debug)]
pub(crate) struct Series<C = Case> {
    /// What was measured.
    pub(crate) case: C,
    /// Nanoseconds for one operation, by round.
    pub(crate) rounds: Vec<f64>,
    count: u32,
}

impl<C> Series<C> {
    /// The fastest round.
    pub(crate) fn min(&self) -> f64 {
        self.rounds.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The round in the middle.
    pub(crate) fn median(&self) -> f64 {
        median(self.rounds.clone())
    }

    /// What a quarter of the rounds stays below: where others take the CPU half of the time, all that it is not disturbed by.
    pub(crate) fn quartile(&self) -> f64 {
        let mut rounds = self.rounds.clone();
        rounds.sort_by(f64::total_cmp);
        rounds.get(rounds.len() / 4).copied().unwrap_or(f64::NAN)
    }

    /// The quotients with the rounds of `base` that ran at the same time.
    pub(crate) fn ratios<B>(&self, base: &Series<B>) -> impl Iterator<Item = f64> {
        self.rounds.iter().zip(&base.rounds).map(|(one, base)| one / base)
    }

    /// The one in the middle of [`Series::ratios`].
    pub(crate) fn median_ratio<B>(&self, base: &Series<B>) -> f64 {
        median(self.ratios(base).collect())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The median, and what it would not be below in one of 3,000 repetitions: 3.4 deviations of the number of values that
/// are below a median (binomial, whatever the values' own distribution is).
pub(crate) fn median_and_least(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    let middle = values.len() / 2;
    let deviation = (values.len() as f64).sqrt() / 2.0;
    (at(middle), at(middle.saturating_sub((3.4 * deviation).ceil() as usize)))
}

/// Measures all cases of `arena` for about `duration`.
pub(crate) fn measure(arena: &Arena, duration: Duration) -> Result<Vec<Series>> {
    let idle = |hook| Yardstick::attach(arena.apart(), hook, Work::Nothing);
    let _idle: Vec<Yardstick> = HOOKS.into_iter().map(idle).collect::<Result<_, _>>()?;
    let mut cases = Vec::new();
    for operation in Operation::COMPARED {
        for family in Family::ALL {
            cases.extend(operation.paths().iter().map(|&path| Case { operation, family, path }));
        }
    }
    sweep(cases, duration, |case, count| arena.run(*case, count))
}

/// Measures all `cases` for about `duration`; `run` says how long so many of one take.
pub(crate) fn sweep<C>(
    cases: Vec<C>,
    duration: Duration,
    mut run: impl FnMut(&C, u32) -> Result<Duration>,
) -> Result<Vec<Series<C>>> {
    let mut all = Vec::new();
    for case in cases {
        let count = calibrate(|count| run(&case, count))?;
        all.push(Series { case, rounds: Vec::new(), count });
    }
    let end = Instant::now() + duration;
    let mut order: Vec<usize> = (0..all.len()).collect();
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    while Instant::now() < end {
        // What one case leaves in the caches must not always meet the same other one.
        for last in (1..order.len()).rev() {
            order.swap(last, dice.below(last as u32 + 1) as usize);
        }
        for index in &order {
            let Some(series) = all.get_mut(*index) else { continue };
            let took = run(&series.case, series.count)?;
            series.rounds.push(took.as_nanos() as f64 / f64::from(series.count));
        }
    }
    Ok(all)
}

/// How many operations make a round.
fn calibrate(mut run: impl FnMut(u32) -> Result<Duration>) -> Result<u32> {
    const TRIAL: u32 = 64;
    let mut fastest = Duration::MAX;
    for _ in 0..8 {
        fastest = fastest.min(run(TRIAL)?);
    }
    let once = fastest.as_nanos().max(1) / u128::from(TRIAL);
    Ok((ROUND.as_nanos() / once.max(1)).clamp(16, 4096) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Path;

    fn series(rounds: &[f64]) -> Series {
        let case = Case { operation: Operation::UdpConnect, family: Family::V4, path: Path::Hot };
        Series { case, rounds: rounds.to_vec(), count: 1 }
    }

    #[test]
    fn ratios_are_of_rounds_that_ran_together() {
        let (slow, base) = (series(&[110.0, 2200.0, 121.0]), series(&[100.0, 2000.0, 110.0]));
        assert_eq!(slow.min(), 110.0);
        assert_eq!(slow.median(), 121.0);
        assert_eq!(series(&[4.0, 1.0, 3.0, 2.0]).quartile(), 2.0);
        assert!((slow.median_ratio(&base) - 1.1).abs() < 1e-9);
    }

    #[test]
    fn the_least_is_below_the_median_and_comes_nearer_with_more_rounds() {
        let (few, many): (Vec<f64>, Vec<f64>) =
            ((0..100).map(f64::from).collect(), (0..10_000).map(f64::from).collect());
        assert_eq!(median_and_least(few), (50.0, 33.0));
        assert_eq!(median_and_least(many), (5000.0, 4830.0));
        // Too few to say anything.
        assert_eq!(median_and_least(vec![1.0, 9.0, 9.0, 9.0]), (9.0, 1.0));
    }
}
