//! What is in force although no agent runs, as the pins tell.

use agent::{EventLevel, status::Hook};
use kernel::{Attached, TableStore};
use serde::Serialize;

use crate::{place::Place, tone::Tone};

/// See the module. What can't be looked at is null.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Remains {
    /// `balancing pause` is in force.
    paused: Option<bool>,
    /// The hooks.
    hooks: Option<Vec<Hook>>,
    /// Frontends in force.
    frontends: Option<usize>,
    /// Level of events.
    events: Option<String>,
    /// That no agent runs, and what is wrong besides.
    problems: Vec<String>,
}

const PAUSED: &str = "no service address is translated until `balancing resume`";

impl Remains {
    /// Looks at the pins. `problem`: why the agent could not be asked.
    pub(super) fn find(place: &Place, problem: &str) -> Self {
        let maps = place.maps().ok();
        let settings = maps.as_ref().and_then(|maps| maps.settings().ok());
        let contents = maps.as_ref().and_then(|maps| maps.read().ok());
        let hook = |it: Attached| Hook { name: it.hook.into(), program: it.program_id };
        let remains = Self {
            paused: settings.map(|settings| settings.paused != 0),
            hooks: kernel::attached(&place.pins()).ok().map(|hooks| hooks.into_iter().map(hook).collect()),
            frontends: contents.map(|contents| contents.frontends.len()),
            events: settings.map(|settings| EventLevel::from_settings(&settings).to_string()),
            problems: vec![problem.into()],
        };
        let paused = remains.is_paused().then(|| format!("paused: {PAUSED}"));
        Self { problems: remains.problems.into_iter().chain(paused).collect(), ..remains }
    }

    fn is_paused(&self) -> bool {
        // Without programs nothing is translated anyway.
        self.paused == Some(true) && self.attached().0 > 0
    }

    /// How many hooks have programs, and how many there are.
    fn attached(&self) -> (usize, usize) {
        let hooks = self.hooks.as_deref().unwrap_or_default();
        (hooks.iter().filter(|hook| hook.program.is_some()).count(), hooks.len())
    }

    /// For people, below the error; nothing if nothing is left.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.is_paused() {
            lines.push(Tone::Warn.paint_head(&format!("PAUSED all the same: {PAUSED}")));
        }
        if let (on @ 1.., all) = self.attached() {
            lines.push(format!(
                "{on} of {all} programs are attached all the same, with the tables that it left"
            ));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_told_of_only_where_programs_are_attached() {
        let hook = |program| Hook { name: "connect4".into(), program };
        let of = |paused, hooks: &[Option<u32>]| Remains {
            paused,
            hooks: Some(hooks.iter().copied().map(hook).collect()),
            ..Remains::default()
        };
        let attached = "1 of 2 programs are attached all the same, with the tables that it left";
        let paused = format!("\x1b[33mPAUSED\x1b[0m all the same: {PAUSED}");
        for (remains, expected) in [
            (of(Some(true), &[Some(1), None]), vec![paused.as_str(), attached]),
            (of(Some(false), &[Some(1), None]), vec![attached]),
            (of(None, &[Some(1), None]), vec![attached]),
            (of(Some(true), &[None, None]), vec![]),
            (Remains::default(), vec![]),
        ] {
            assert_eq!(remains.lines(), expected, "{remains:?}");
        }
    }
}
