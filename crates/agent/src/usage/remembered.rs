//! So many tallies and no more: where there is no room for new ones, those idle the longest go.

use std::{collections::HashMap, hash::Hash, time::Duration};

use super::tally::{Reading, Tally};

/// What was used so lately stays, whatever there is no room for then.
const BUSY: Duration = Duration::from_secs(60);
/// What was not used for so long goes if there is no such thing any more.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// This part of all goes at once, so that there is room for a while.
const AT_ONCE: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Remembered<K, V> {
    kept: HashMap<K, (V, Tally)>,
    most: usize,
    /// How often all of it was gone through to find what can go.
    #[cfg(test)]
    pub(super) passes: u32,
}

impl<K: Eq + Hash, V> Remembered<K, V> {
    /// Nothing yet, and no more than `most`.
    pub(super) fn new(most: usize) -> Self {
        Self {
            kept: HashMap::new(),
            most,
            #[cfg(test)]
            passes: 0,
        }
    }

    /// Adds all that was counted in one reading, and gives back how much of it there was no room for. `new` is asked about keys
    /// that were not there.
    pub(super) fn add(
        &mut self,
        counted: HashMap<K, u64>,
        reading: Reading,
        mut new: impl FnMut(&K) -> V,
    ) -> u64 {
        let missing = counted.keys().filter(|key| !self.kept.contains_key(key)).count();
        self.make_room(missing, reading.now);
        let mut left_out = 0;
        for (key, count) in counted {
            if self.kept.len() < self.most || self.kept.contains_key(&key) {
                let value = |key: &K| (new(key), Tally::default());
                self.kept.entry(key).or_insert_with_key(value).1.add(count, reading);
            } else {
                left_out += count;
            }
        }
        left_out
    }

    /// Once a reading, however much is missing: the task that owns the tables does this.
    fn make_room(&mut self, missing: usize, now: Duration) {
        let over = (self.kept.len() + missing).saturating_sub(self.most);
        if over == 0 {
            return;
        }
        #[cfg(test)]
        {
            self.passes += 1;
        }
        let all = self.kept.values().map(|(_, tally)| tally.idle(now));
        let mut idle: Vec<Duration> = all.filter(|idle| *idle >= BUSY).collect();
        if let Some(keep) = idle.len().checked_sub(over.max(self.most / AT_ONCE).min(idle.len()).max(1)) {
            let least = *idle.select_nth_unstable(keep).1;
            self.kept.retain(|_, (_, tally)| tally.idle(now) < least);
        }
    }

    /// Forgets what has been idle for long and is not there any more.
    pub(super) fn forget(&mut self, now: Duration, mut is_there: impl FnMut(&K) -> bool) {
        self.kept.retain(|key, (_, tally)| tally.idle(now) < FORGOTTEN || is_there(key));
    }

    /// All of it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V, &Tally)> {
        self.kept.iter().map(|(key, (value, tally))| (key, value, tally))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds one of each key; how many there was no room for.
    fn add(it: &mut Remembered<u32, ()>, number: u32, seconds: u64, keys: impl Iterator<Item = u32>) -> u64 {
        let reading = Reading { number, now: Duration::from_secs(seconds) };
        it.add(keys.map(|key| (key, 1)).collect(), reading, |_| ())
    }

    #[test]
    fn however_much_there_is_no_room_for_all_is_gone_through_once_a_reading() {
        let mut it = Remembered::new(1000);
        assert_eq!(add(&mut it, 1, 1, 0..1000), 0);
        assert_eq!((add(&mut it, 2, 3, 1000..3000), it.passes), (2000, 1), "all are in use");
        assert_eq!((add(&mut it, 3, 5, 0..1000), it.passes), (0, 1), "nothing new");
        assert_eq!((add(&mut it, 4, 65, 3000..3500), it.passes), (0, 2));
        assert_eq!(it.kept.len(), 500, "those idle went, which had all been used last at one time");
    }

    #[test]
    fn those_idle_the_longest_go_and_some_more_than_must() {
        let mut it = Remembered::new(160);
        for n in 0..160 {
            add(&mut it, n, u64::from(n), n..=n);
        }
        assert_eq!(add(&mut it, 160, 160, 160..161), 0);
        let mut kept: Vec<u32> = it.kept.keys().copied().collect();
        kept.sort_unstable();
        assert_eq!(kept, Vec::from_iter(10..161));
        assert_eq!((add(&mut it, 161, 161, 161..170), it.passes), (0, 1), "there is room for a while");
    }
}
