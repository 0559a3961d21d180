//! Reading what the programs have counted ([`abi::usage`]).

use std::collections::HashMap;

use abi::{
    reason::COUNTER_UNATTRIBUTED,
    usage::{BUCKETS, BucketWords, Key, PAGES, WAYS},
};
use bytemuck::Zeroable;

use crate::{Error, Maps, maps::possible_cpus, sys};

impl Maps {
    /// Lets the programs count in the other page from now on; which one they leave. Nobody counts there any more once
    /// [`crate::wait_for_readers`] has returned.
    ///
    /// # Errors
    /// The settings can't be changed.
    pub fn turn_usage_page(&self) -> Result<u32, Error> {
        let mut left = 0;
        self.change_settings(|settings| {
            left = settings.usage_page & (PAGES - 1);
            settings.usage_page = (left + 1) & (PAGES - 1);
        })?;
        Ok(left)
    }

    /// All that was counted until now, for an agent that starts: where the programs count, and in the page that an agent
    /// before may have had no time to read. [`crate::wait_for_readers`] must have returned since that one ended.
    ///
    /// # Errors
    /// The maps can't be read or written.
    pub fn take_all_usage(&self) -> Result<HashMap<Key, u64>, Error> {
        let counting = self.settings()?.usage_page;
        let mut found = self.take_usage(counting + 1)?;
        let left = self.turn_usage_page()?;
        crate::wait_for_readers();
        for (key, count) in self.take_usage(left)? {
            *found.entry(key).or_default() += count;
        }
        Ok(found)
    }

    /// What was counted in a page that nobody counts in, which is empty afterwards.
    ///
    /// # Errors
    /// The map can't be read or written; what was read is not lost unless it could not be emptied in part.
    pub fn take_usage(&self, page: u32) -> Result<HashMap<Key, u64>, Error> {
        let cpus = possible_cpus()?;
        let first = (page & (PAGES - 1)) * BUCKETS;
        let mut buckets = vec![BucketWords::zeroed(); BUCKETS as usize * cpus];
        sys::read_range(self.usage.fd(), first, BUCKETS, &mut buckets)
            .map_err(self.usage.error("BPF_MAP_LOOKUP_BATCH"))?;
        let mut found = HashMap::new();
        let mut used = Vec::new();
        for (number, bucket) in (first..).zip(buckets.chunks(cpus)) {
            let entries = bucket.iter().flat_map(|bucket| &bucket.0);
            let mut any = false;
            for [key, count] in entries {
                any |= *key != 0;
                if let Some(key) = Key::unpack(*key) {
                    *found.entry(key).or_default() += count;
                }
            }
            if any {
                used.push(number);
            }
        }
        let empty = vec![BucketWords([[0; 2]; WAYS]); cpus * used.len()];
        sys::write_per_cpu(self.usage.fd(), &used, &empty)
            .map_err(self.usage.error("BPF_MAP_UPDATE_BATCH"))?;
        Ok(found)
    }

    /// Decisions that there was no room to count by client or backend, so far.
    ///
    /// # Errors
    /// The map can't be read.
    pub fn unattributed(&self) -> Result<u64, Error> {
        self.counter(COUNTER_UNATTRIBUTED)
    }
}
