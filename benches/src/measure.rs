//! Many short rounds, all cases in turn, so that whatever else happens on the machine happens to all of them.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    arena::Arena,
    operation::{Case, Dice, Family, Operation},
};

/// How long one round shall take.
const ROUND: Duration = Duration::from_micros(1000);

/// One case, and what each of its rounds gave.
#[derive(Debug)]
pub(crate) struct Series {
    /// What was measured.
    pub(crate) case: Case,
    /// Nanoseconds for one operation, by round.
    pub(crate) rounds: Vec<f64>,
    count: u32,
}

impl Series {
    /// The fastest round.
    pub(crate) fn min(&self) -> f64 {
        self.rounds.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The round in the middle.
    pub(crate) fn median(&self) -> f64 {
        median(self.rounds.clone())
    }

    /// The quotient in the middle of those with the rounds of `base` that ran at the same time.
    pub(crate) fn median_ratio(&self, base: &Self) -> f64 {
        median(self.rounds.iter().zip(&base.rounds).map(|(one, base)| one / base).collect())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Measures all cases for about `duration`.
pub(crate) fn measure(arena: &Arena, duration: Duration) -> Result<Vec<Series>> {
    let mut all = Vec::new();
    for operation in Operation::COMPARED {
        for family in Family::ALL {
            for &path in operation.paths() {
                let case = Case { operation, family, path };
                all.push(Series { case, rounds: Vec::new(), count: calibrate(arena, case)? });
            }
        }
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
            let took = arena.run(series.case, series.count)?;
            series.rounds.push(took.as_nanos() as f64 / f64::from(series.count));
        }
    }
    Ok(all)
}

/// How many operations make a round.
fn calibrate(arena: &Arena, case: Case) -> Result<u32> {
    const TRIAL: u32 = 64;
    let mut fastest = Duration::MAX;
    for _ in 0..8 {
        fastest = fastest.min(arena.run(case, TRIAL)?);
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
        assert!((slow.median_ratio(&base) - 1.1).abs() < 1e-9);
    }
}
