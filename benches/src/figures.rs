//! The figures that are checked in (benches/figures.json), and whether those of a run are worse.
//!
//! Ratios and look-ups only: a nanosecond is another machine's.

use std::{fmt, fs, path::Path};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::report::or_dash;

/// What a figure counts; below that, less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Unit {
    /// Of the same without programs: 1 is nothing.
    Ratio,
    /// Hash look-ups.
    LookUps,
    /// KiB.
    #[serde(rename = "KiB")]
    KiB,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: Unit,
    pub(crate) value: f64,
    /// The least that it can be said to be. Only of the run itself.
    #[serde(skip)]
    pub(crate) at_least: f64,
}

/// All of one run, and where it ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Figures {
    pub(crate) date: String,
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) services: u32,
    pub(crate) figures: Vec<Figure>,
}

/// What is said of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Less than before, beyond noise.
    Better,
    /// The same, as far as noise allows to say.
    AsBefore,
    /// More than before: look why. Noise can be that large on a machine that does much else.
    Worse,
    /// So much more that it is no noise: the run fails.
    Broken,
    /// Worse, but a ratio of another processor than that of the file: it says nothing.
    OtherMachine,
    /// Not in the file.
    New,
    /// Only in the file.
    Gone,
}

impl Unit {
    /// From where on a figure is worse, and from where on it is broken.
    ///
    /// A ratio is judged by what is above 1, which is what the programs cost.
    fn limits(self, checked_in: f64) -> (f64, f64) {
        match self {
            Self::Ratio => {
                let cost = (checked_in - 1.0).max(0.0);
                (1.0 + 1.25 * cost + 0.006, 1.0 + 1.6 * cost + 0.015)
            }
            Self::LookUps => (1.25 * checked_in + 0.5, 1.6 * checked_in + 1.5),
            // Nothing is noise here, but percpu maps grow with the machine.
            Self::KiB => (1.01 * checked_in, 1.25 * checked_in),
        }
    }

    /// Below which a figure is better.
    fn better(self, checked_in: f64) -> f64 {
        checked_in - (self.limits(checked_in).0 - checked_in)
    }

    fn digits(self) -> usize {
        match self {
            Self::Ratio => 3,
            Self::LookUps => 1,
            Self::KiB => 0,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ratio => "ratio",
            Self::LookUps => "look-ups",
            Self::KiB => "KiB",
        }
    }
}

impl Figure {
    /// One that noise has no part in.
    pub(crate) fn new(name: String, unit: Unit, value: f64) -> Self {
        // One more digit than is shown: more would only make the file change.
        let scale = 10f64.powi(unit.digits() as i32 + 1);
        let value = (value * scale).round() / scale;
        Self { name, unit, value, at_least: value }
    }

    /// The median of many ratios, and that of the fastest rounds. Noise moves the one where it comes all the time, and the
    /// other where it hardly ever goes: what the programs cost is in both.
    pub(crate) fn ratio(name: String, median: f64, fastest: f64) -> Self {
        let figure = Self::new(name, Unit::Ratio, median);
        Self { at_least: figure.value.min(fastest), ..figure }
    }
}

impl Figures {
    /// Reads those that are checked in.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let context = || format!("{} has no figures (--accept writes it anew)", file.display());
        serde_json::from_str(&text).with_context(context)
    }

    /// Makes them the checked-in ones, unless noise does: established connections meet no program, so that their ratio is 1.
    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        let is_off = |figure: &&Figure| figure.name.starts_with("E7") && (figure.value - 1.0).abs() > 0.01;
        if let Some(Figure { name, value, .. }) = self.figures.iter().find(is_off) {
            bail!("too noisy to be checked in: {name} should be 1.00 and is {value:.3}");
        }
        let text = serde_json::to_string_pretty(self).context("cannot write JSON")?;
        fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
    }

    fn of(&self, name: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == name)
    }
}

/// A run beside the checked-in figures.
#[derive(Debug)]
pub(crate) struct Comparison<'a> {
    checked_in: &'a Figures,
    now: &'a Figures,
}

impl<'a> Comparison<'a> {
    /// Of these two.
    pub(crate) fn new(checked_in: &'a Figures, now: &'a Figures) -> Self {
        Self { checked_in, now }
    }

    /// The names of those that are so much worse that it is no noise.
    pub(crate) fn broken(&self) -> Vec<&'a str> {
        let broken = self.now.figures.iter().filter(|now| self.verdict(now) == Verdict::Broken);
        broken.map(|now| now.name.as_str()).collect()
    }

    fn verdict(&self, now: &Figure) -> Verdict {
        let Some(before) = self.checked_in.of(&now.name) else { return Verdict::New };
        let (worse, broken) = now.unit.limits(before.value);
        if now.value > worse && now.unit == Unit::Ratio && self.checked_in.cpu != self.now.cpu {
            Verdict::OtherMachine
        } else if now.at_least > broken {
            Verdict::Broken
        } else if now.value > worse {
            Verdict::Worse
        } else if now.value < now.unit.better(before.value) {
            Verdict::Better
        } else {
            Verdict::AsBefore
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Better => "better",
            Self::AsBefore => "as before",
            Self::Worse => "WORSE, or noise",
            Self::Broken => "FAR WORSE",
            Self::OtherMachine => "worse, but of another machine",
            Self::New => "not checked in",
            Self::Gone => "no longer measured",
        })
    }
}

impl fmt::Display for Comparison<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (then, now) = (self.checked_in, self.now);
        writeln!(
            f,
            "Against the figures checked in on {}, of kernel {}, {}:",
            then.date, then.kernel, then.cpu
        )?;
        writeln!(
            f,
            "{:<46}{:<9}{:>11}{:>9}{:>10}{:>10}  verdict",
            "figure", "", "checked in", "now", "at least", "fails at"
        )?;
        let gone = then.figures.iter().filter(|figure| now.of(&figure.name).is_none());
        for figure in now.figures.iter().chain(gone) {
            let (before, now) = (then.of(&figure.name), now.of(&figure.name));
            let verdict = now.map_or(Verdict::Gone, |now| self.verdict(now));
            let digits = figure.unit.digits();
            let [before, now, at_least, limit] = [
                before.map(|before| before.value),
                now.map(|now| now.value),
                now.map(|now| now.at_least),
                before.map(|before| before.unit.limits(before.value).1),
            ]
            .map(|value| or_dash(value, digits));
            let (name, unit) = (&figure.name, figure.unit.name());
            writeln!(f, "{name:<46}{unit:<9}{before:>11}{now:>9}{at_least:>10}{limit:>10}  {verdict}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(cpu: &str, values: &[(&str, Unit, f64)]) -> Figures {
        let figure = |&(name, unit, value): &(&str, Unit, f64)| Figure::new(name.to_owned(), unit, value);
        Figures {
            date: "2026-11-23".to_owned(),
            kernel: "6.18".to_owned(),
            cpu: cpu.to_owned(),
            services: 1000,
            figures: values.iter().map(figure).collect(),
        }
    }

    fn verdict(unit: Unit, before: f64, now: f64) -> Verdict {
        let (before, now) = (figures("a", &[("x", unit, before)]), figures("a", &[("x", unit, now)]));
        Comparison::new(&before, &now).verdict(&now.figures[0])
    }

    #[test]
    fn twice_the_cost_fails() {
        assert_eq!(verdict(Unit::Ratio, 1.07, 1.14), Verdict::Broken);
        assert_eq!(verdict(Unit::LookUps, 8.0, 16.0), Verdict::Broken);
        assert_eq!(verdict(Unit::KiB, 80_000.0, 160_000.0), Verdict::Broken);
    }

    #[test]
    fn noise_does_not_fail_and_a_little_more_is_shown() {
        for (unit, before, noise, more) in [
            (Unit::Ratio, 1.05, 1.065, 1.08),
            (Unit::LookUps, 8.0, 9.5, 11.0),
            (Unit::KiB, 100.0, 100.0, 110.0),
        ] {
            assert_eq!(verdict(unit, before, noise), Verdict::AsBefore);
            assert_eq!(verdict(unit, before, more), Verdict::Worse);
        }
        assert_eq!(verdict(Unit::Ratio, 1.15, 1.05), Verdict::Better);
        // What costs less than nothing is noise, and leaves the limits where they are.
        assert_eq!(verdict(Unit::Ratio, 0.99, 1.005), Verdict::AsBefore);
    }

    #[test]
    fn a_ratio_of_another_processor_does_not_fail() {
        let before = figures("a", &[("ratio", Unit::Ratio, 1.05), ("look-ups", Unit::LookUps, 8.0)]);
        let now = figures("b", &[("ratio", Unit::Ratio, 1.5), ("look-ups", Unit::LookUps, 80.0)]);
        assert_eq!(Comparison::new(&before, &now).broken(), ["look-ups"]);
        assert_eq!(Comparison::new(&before, &before).broken(), [""; 0]);
    }

    #[test]
    fn a_noisy_ratio_does_not_fail() {
        let before = figures("a", &[("x", Unit::Ratio, 1.05)]);
        let verdict = |median: f64, fastest: f64| {
            let figure = Figure::ratio("x".to_owned(), median, fastest);
            let now = Figures { figures: vec![figure], ..before.clone() };
            Comparison::new(&before, &now).verdict(&now.figures[0])
        };
        assert_eq!(verdict(1.11, 1.12), Verdict::Broken);
        assert_eq!(verdict(1.11, 1.05), Verdict::Worse);
        assert_eq!(verdict(1.05, 1.12), Verdict::AsBefore);
    }

    #[test]
    fn figures_of_a_noisy_run_are_not_accepted() {
        let noisy = figures("a", &[("E1 x", Unit::Ratio, 1.05), ("E7 y", Unit::Ratio, 0.98)]);
        let error = noisy.write(Path::new("/nowhere/at/all")).unwrap_err().to_string();
        assert!(error.contains("E7 y should be 1.00 and is 0.980"), "{error}");
        let quiet = figures("a", &[("E1 x", Unit::Ratio, 1.05), ("E7 y", Unit::Ratio, 1.004)]);
        let error = quiet.write(Path::new("/nowhere/at/all")).unwrap_err().to_string();
        assert!(error.contains("cannot write"), "{error}");
    }

    #[test]
    fn what_only_one_of_both_has_is_shown() {
        let before = figures("a", &[("old", Unit::LookUps, 8.0)]);
        let now = figures("a", &[("new", Unit::LookUps, 9.0)]);
        let shown = Comparison::new(&before, &now).to_string();
        let line = |name: &str| shown.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert!(line("old").ends_with("no longer measured"));
        assert!(line("new").ends_with("not checked in"));
    }
}
