//! Counts of tests: read from what test binaries print, shown as one table.

use std::{fmt, time::Duration};

use anyhow::{Result, bail};

/// How one test binary, or a whole level, went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    binaries: u32,
    passed: u32,
    failed: u32,
    ignored: u32,
    scenarios: u32,
    took: Duration,
}

impl Outcome {
    /// Reads `output` of a test binary. One that dies without a result counts as one failed test.
    pub(super) fn of(output: &str, success: bool, took: Duration) -> Self {
        let mut outcome = Self { binaries: 1, took, ..Self::default() };
        let mut finished = false;
        for line in output.lines() {
            if let Some(result) = line.strip_prefix("test result: ") {
                finished = true;
                outcome.passed += count(result, "passed");
                outcome.failed += count(result, "failed");
                outcome.ignored += count(result, "ignored");
            } else if let Some(number) = line.trim().strip_prefix("kernel-scenarios: ") {
                outcome.scenarios += number.trim().parse().unwrap_or(0);
            }
        }
        if outcome.failed == 0 && !(success && finished) {
            outcome.failed = 1;
        }
        outcome
    }

    /// Whether nothing failed.
    pub(super) fn succeeded(&self) -> bool {
        self.failed == 0
    }

    fn add(&mut self, other: Self) {
        self.binaries += other.binaries;
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.scenarios += other.scenarios;
        self.took += other.took;
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.ignored > 0 {
            write!(f, ", {} ignored", self.ignored)?;
        }
        write!(f, " ({:.1} s)", self.took.as_secs_f32())
    }
}

/// `3` from `ok. 3 passed; 0 failed; …` for the word `passed`.
fn count(result: &str, word: &str) -> u32 {
    let mut before = "";
    for token in result.split([' ', ';']).filter(|token| !token.is_empty()) {
        if token == word {
            return before.parse().unwrap_or(0);
        }
        before = token;
    }
    0
}

/// The part of `output` that explains a failure: libtest gathers it after the last line `failures:` but one
/// (the last one only lists names); everything where a binary died before that.
pub(super) fn interesting(output: &str) -> &str {
    output.find("\nfailures:\n").map_or(output, |at| &output[at + 1..])
}

/// The table at the end.
#[derive(Debug, Default)]
pub(super) struct Report {
    levels: Vec<(String, Outcome)>,
}

impl Report {
    /// Adds the outcome of one binary to its level.
    pub(super) fn add(&mut self, level: &str, outcome: Outcome) {
        match self.levels.iter_mut().find(|(name, _)| name == level) {
            Some((_, sum)) => sum.add(outcome),
            None => self.levels.push((level.to_owned(), outcome)),
        }
    }

    fn sum(&self) -> Outcome {
        self.levels.iter().fold(Outcome::default(), |mut sum, (_, outcome)| {
            sum.add(*outcome);
            sum
        })
    }

    /// Prints the table and the closing line; an error when the run must not pass.
    pub(super) fn print(&self, with_kernel: bool) -> Result<()> {
        let width = self.levels.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max("level".len());
        println!("\n{:width$}  passed  failed  ignored    time", "level");
        for (name, outcome) in &self.levels {
            let Outcome { passed, failed, ignored, .. } = outcome;
            let took = outcome.took.as_secs_f32();
            println!("{name:width$}  {passed:6}  {failed:6}  {ignored:7}  {took:4.0} s");
        }
        let sum = self.sum();
        if with_kernel {
            println!("\nscenarios that ran on the kernel back end: {}", sum.scenarios);
        }
        println!("\n{} passed, {} failed", sum.passed, sum.failed);
        self.verdict(with_kernel)
    }

    fn verdict(&self, with_kernel: bool) -> Result<()> {
        let sum = self.sum();
        if sum.failed > 0 {
            let failed: Vec<&str> = self
                .levels
                .iter()
                .filter(|(_, outcome)| !outcome.succeeded())
                .map(|(name, _)| name.as_str())
                .collect();
            bail!("tests failed in: {}", failed.join("; "));
        }
        if sum.passed == 0 {
            bail!("no test ran at all");
        }
        if with_kernel && sum.scenarios == 0 {
            bail!(
                "no scenario ran on the kernel back end: no test printed a line `kernel-scenarios: N` with N > 0"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSED: &str = "running 2 tests\ntest a ... ok\ntest b ... ok\n\nsuccesses:\n\n---- a stdout ----\n\
        kernel-scenarios: 12\n\n\ntest result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n";
    const FAILED: &str = "running 1 test\ntest a ... FAILED\n\nfailures:\n\n---- a stdout ----\nwhy\n\n\nfailures:\n    \
        a\n\ntest result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n";

    fn outcome(output: &str, success: bool) -> Outcome {
        Outcome::of(output, success, Duration::from_secs(1))
    }

    #[test]
    fn counts_are_read() {
        let outcome = outcome(PASSED, true);
        assert_eq!((outcome.passed, outcome.failed, outcome.ignored, outcome.scenarios), (2, 0, 1, 12));
        assert!(outcome.succeeded());
        assert_eq!(outcome.to_string(), "2 passed, 0 failed, 1 ignored (1.0 s)");
    }

    #[test]
    fn failures_are_shown() {
        let outcome = outcome(FAILED, false);
        assert_eq!((outcome.passed, outcome.failed), (0, 1));
        assert!(interesting(FAILED).starts_with("failures:\n\n---- a stdout ----\nwhy"));
    }

    #[test]
    fn a_binary_that_dies_is_a_failure() {
        assert_eq!(outcome("running 2 tests\ntest a ... ok\n", false).failed, 1);
        assert_eq!(outcome("", true).failed, 1);
        assert_eq!(outcome(PASSED, false).failed, 1);
        assert_eq!(interesting("thread panicked"), "thread panicked");
    }

    #[test]
    fn a_run_without_kernel_scenarios_fails() {
        let mut report = Report::default();
        report.add("unit, property", outcome(&PASSED.replace("kernel-scenarios: 12", ""), true));
        assert!(report.verdict(false).is_ok());
        assert!(report.verdict(true).unwrap_err().to_string().contains("no scenario ran"));
        report.add("scenarios", outcome(PASSED, true));
        assert!(report.verdict(true).is_ok());
        report.add("scenarios", outcome(FAILED, false));
        assert_eq!(report.verdict(true).unwrap_err().to_string(), "tests failed in: scenarios");
    }

    #[test]
    fn no_tests_are_no_success() {
        assert!(Report::default().verdict(false).is_err());
    }
}
