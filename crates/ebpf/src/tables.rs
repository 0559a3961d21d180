//! The look-ups over the bpf maps.

use crate::maps;
use abi::{Backend, Key, Record, Settings};
use aya_ebpf::helpers::bpf_get_prandom_u32;
use datapath::Env;

/// The bpf maps.
pub struct Tables;

impl Env for Tables {
    type Ref<'a, T: 'a> = &'a T;

    #[inline(always)]
    fn settings(&self) -> Settings {
        maps::SETTINGS.get(0).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn frontend(&self, key: &Key) -> Option<u32> {
        match key.v4() {
            // SAFETY: 4 aligned bytes, read whole; a value that another frontend's update put there is caught by
            // the key in the record.
            Some(key) => maps::FRONTENDS4.get_ptr(&key).map(|value| unsafe { value.read_volatile() }),
            // SAFETY: as above.
            None => maps::FRONTENDS6.get_ptr(key.v6()).map(|value| unsafe { value.read_volatile() }),
        }
    }

    #[inline(always)]
    fn record(&self, index: u32) -> Option<&Record> {
        maps::RECORDS.get(index)
    }

    #[inline(always)]
    fn listed(&self, position: u32) -> Option<u32> {
        maps::LISTS.get(position).copied()
    }

    #[inline(always)]
    fn backend(&self, index: u32) -> Option<&Backend> {
        maps::BACKENDS.get(index)
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_get_prandom_u32() }
    }
}
