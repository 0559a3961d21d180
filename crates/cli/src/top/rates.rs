//! How much a second, from one answer to another.
//!
//! The agent's `recent` counts are those since it last read the programs' counts, for whomever it did: a moment ago, perhaps, which
//! says little. So they are made anew here, of what has been added since an answer that is a second old.

use std::{collections::HashMap, net::SocketAddr};

use observe::{Usage, event::Who, usage::Count};

use crate::target::Target;

/// Seconds over which something can be said.
const LONG_ENOUGH: f64 = 0.9;

/// Answers so far, as far as they matter: at most two, the newest last, some time apart.
#[derive(Debug, Default)]
pub(super) struct Rates(Vec<Usage>);

impl Rates {
    /// The same answer with `recent` counts that are those of `seconds`, which are not few.
    pub(super) fn apply(&mut self, mut usage: Usage) -> Usage {
        let is_old = |before: &&Usage| apart(&usage, before) >= LONG_ENOUGH;
        let is_next = self.0.last().is_none_or(|before| is_old(&before));
        let base = self.0.iter().rev().find(is_old);
        let answer = usage.clone();
        match base {
            Some(before) => add_up(&mut usage, before),
            None if usage.seconds < LONG_ENOUGH => {
                usage.seconds = 60.0;
                counts(&mut usage).for_each(|count| count.recent = count.minute);
            }
            None => {}
        }
        if is_next {
            self.0.push(answer);
            let excess = self.0.len().saturating_sub(2);
            self.0.drain(..excess);
        }
        usage
    }
}

/// Seconds from one to the other; negative if the clock was set back.
fn apart(now: &Usage, before: &Usage) -> f64 {
    let times = now.time.zip(before.time);
    times.map_or(0.0, |(now, before)| now.duration_since(before).as_secs_f64())
}

fn counts(usage: &mut Usage) -> impl Iterator<Item = &mut Count> {
    let clients = usage.clients.iter_mut().map(|it| &mut it.count);
    clients.chain(usage.backends.iter_mut().map(|it| &mut it.count))
}

fn add_up(usage: &mut Usage, before: &Usage) {
    type Clients<'a> = HashMap<(&'a Who, Target, &'a str), u64>;
    usage.seconds = apart(usage, before);
    let old: Clients<'_> = before
        .clients
        .iter()
        .map(|it| ((&it.client, it.into(), it.reason.as_str()), it.count.total))
        .collect();
    for it in &mut usage.clients {
        let target = Target::from(&*it);
        let total = old.get(&(&it.client, target, it.reason.as_str())).copied();
        it.count.recent = added(it.count.total, total);
    }
    let backend = |it: &observe::usage::BackendUse| (Target::from(it), SocketAddr::new(it.ip, it.port));
    let old: HashMap<_, u64> = before.backends.iter().map(|it| (backend(it), it.count.total)).collect();
    for it in &mut usage.backends {
        it.count.recent = added(it.count.total, old.get(&backend(it)).copied());
    }
}

/// What has come since. What was forgotten as idle, or by an agent that was started again, is counted from 0.
fn added(total: u64, before: Option<u64>) -> u64 {
    total.checked_sub(before.unwrap_or_default()).unwrap_or(total)
}
