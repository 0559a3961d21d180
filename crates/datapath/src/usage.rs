//! Counting who uses what: [`abi::usage`].

use abi::usage::Bucket;

/// Counts one of `key` in a bucket of this CPU; `false` if it is full of others.
///
/// Not atomic but for taking an entry: a program that is preempted here by another on its CPU loses what that one counted
/// of the same key. What it counts goes to nobody else: entries are emptied only while nobody counts in their page.
#[inline(always)]
pub fn count(bucket: &Bucket, key: u64) -> bool {
    for entry in &bucket.0 {
        let held = entry.key.load();
        if held == key || held == 0 && (entry.key.replace(0, key) || entry.key.load() == key) {
            entry.count.store(entry.count.load() + 1);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::usage::{WAYS, backend};

    #[test]
    fn a_bucket_counts_as_many_keys_as_it_has_entries() {
        let bucket = Bucket::default();
        for round in 1..=3 {
            for n in 0..WAYS as u32 {
                assert!(count(&bucket, backend(n, 1)));
            }
            assert!(!count(&bucket, backend(WAYS as u32, 1)), "there is no fifth entry");
            for (n, entry) in bucket.0.iter().enumerate() {
                assert_eq!((entry.key.load(), entry.count.load()), (backend(n as u32, 1), round));
            }
        }
    }
}
