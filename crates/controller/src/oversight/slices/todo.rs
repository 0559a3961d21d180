//! What is to be done with slices, and when.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use super::Moment;

/// How long changes are collected before a slice is written.
const DELAY: Duration = Duration::from_millis(50);
/// The first pause after a failure, which doubles, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// How soon something is tried again that was refused.
const REFUSED: Duration = Duration::from_secs(30);
/// A server may ask for longer, up to this.
const LONGEST: Duration = Duration::from_secs(60);

/// Something to do with a slice.
#[derive(Clone, Debug)]
pub(super) struct Todo {
    policy: Arc<str>,
    /// It is to be there; else it is to go.
    is_wanted: bool,
    /// Since which turn.
    since: u64,
    /// When the first change came that it is to tell of.
    pub(super) first: Moment,
    due: Instant,
    is_in_flight: bool,
    /// What has come since it is in flight.
    again: Option<(u64, Moment)>,
    /// To look what it is.
    pub(super) look: bool,
    failures: u32,
    /// A server does not want it.
    is_refused: bool,
}

/// All of it, by slice.
#[derive(Debug, Default)]
pub(super) struct Todos {
    all: BTreeMap<Arc<str>, Todo>,
    turn: u64,
}

impl Todos {
    /// More changes have come.
    pub(super) fn turn(&mut self) {
        self.turn += 1;
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// A slice is not what it should be.
    pub(super) fn add(&mut self, name: &Arc<str>, policy: Arc<str>, is_wanted: bool, at: Moment) {
        let turn = self.turn;
        let todo = self.all.entry(name.clone()).or_insert_with(|| Todo {
            policy,
            is_wanted,
            since: turn,
            first: at,
            due: at.now + DELAY,
            is_in_flight: false,
            again: None,
            look: false,
            failures: 0,
            is_refused: false,
        });
        // Whoever is emptied by a later turn waits for what came with that.
        if todo.is_wanted && !is_wanted {
            todo.since = turn;
        }
        todo.is_wanted = is_wanted;
        if todo.is_in_flight {
            todo.again.get_or_insert((turn, at));
        }
    }

    pub(super) fn drop_unless_in_flight(&mut self, name: &str) {
        if self.all.get(name).is_some_and(|todo| !todo.is_in_flight) {
            self.all.remove(name);
        }
    }

    /// When something is to be done; what waits for something else is not.
    pub(super) fn next(&self) -> Option<Instant> {
        self.open().map(|(_, todo)| todo.due).min()
    }

    /// What waits for nothing but its time. What is to go waits for what came before, or with it, of its policy.
    fn open(&self) -> impl Iterator<Item = (&Arc<str>, &Todo)> {
        let mut first_of: HashMap<&str, u64> = HashMap::new();
        for todo in self.all.values().filter(|todo| todo.is_wanted && !todo.is_refused) {
            let first = first_of.entry(&todo.policy).or_insert(u64::MAX);
            *first = todo.since.min(*first);
        }
        self.all.iter().filter(move |(_, todo)| {
            let waits = || first_of.get(&*todo.policy).is_some_and(|first| *first <= todo.since);
            !todo.is_in_flight && (todo.is_wanted || !waits())
        })
    }

    /// Those that are due, first come, first served.
    pub(super) fn take(&mut self, room: usize, now: Instant) -> Vec<(Arc<str>, Todo)> {
        let due = self.open().filter(|(_, todo)| todo.due <= now);
        let mut due: Vec<(Instant, Arc<str>)> =
            due.map(|(name, todo)| (todo.first.now, name.clone())).collect();
        due.sort();
        due.truncate(room);
        let taken = due.into_iter().filter_map(|(_, name)| {
            let todo = self.all.get_mut(&name)?;
            todo.is_in_flight = true;
            todo.again = None;
            Some((name, todo.clone()))
        });
        taken.collect()
    }

    /// It is written; when the first change was that is told of by that.
    pub(super) fn done(&mut self, name: &Arc<str>, at: Moment) -> Option<Instant> {
        let mut todo = self.all.remove(name)?;
        let told = todo.first.now;
        if let Some((since, first)) = todo.again.take() {
            let due = (first.now + DELAY).max(at.now);
            let again = Todo {
                since,
                first,
                due,
                is_in_flight: false,
                look: false,
                failures: 0,
                is_refused: false,
                ..todo
            };
            self.all.insert(name.clone(), again);
        }
        Some(told)
    }

    /// Somebody else has changed it.
    pub(super) fn look(&mut self, name: &str, now: Instant) {
        self.later(name, None, false, now);
        if let Some(todo) = self.all.get_mut(name) {
            todo.look = true;
        }
    }

    /// It is known what it is.
    pub(super) fn looked(&mut self, name: &str, now: Instant) {
        if let Some(todo) = self.all.get_mut(name) {
            (todo.look, todo.is_in_flight, todo.due) = (false, false, now);
        }
    }

    /// It is to be tried again.
    pub(super) fn later(&mut self, name: &str, asked: Option<Duration>, is_refused: bool, now: Instant) {
        let Some(todo) = self.all.get_mut(name) else { return };
        todo.is_in_flight = false;
        todo.is_refused = is_refused;
        let pause = match is_refused {
            true => REFUSED,
            false => (PAUSES.0 * 2u32.saturating_pow(todo.failures.min(16))).min(PAUSES.1),
        };
        todo.failures += 1;
        // Slices that failed together don't come back together: their names are at random.
        let share = name.bytes().fold(0u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
        let pause = pause.mul_f64(0.5 + f64::from(share) / 512.0);
        todo.due = now + pause + asked.unwrap_or_default().min(LONGEST);
    }
}
