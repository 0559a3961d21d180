//! Who asks: the maps `clients`, `affinity` and `excluded`, which the agent keeps besides the tables.

use std::collections::{BTreeMap, BTreeSet};

use abi::{
    Client,
    client::{AffinityKey, AffinityWords},
};

use crate::{
    Error, Maps,
    store::{delete, put, read},
    sys,
};

/// What one pass over `affinity` found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Entries that stay.
    pub kept: usize,
    /// Entries that were removed.
    pub removed: usize,
}

/// What a client keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Cookie of its network namespace.
    pub client: u64,
    /// Service port id.
    pub service: u32,
    /// The words of the entry.
    pub words: AffinityWords,
}

impl Maps {
    /// Makes `clients` hold these, by the cookie of their network namespace, and no others. What there is no room for is
    /// left out; how many are.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_clients(&self, clients: &BTreeMap<u64, Client>) -> Result<usize, Error> {
        let have: BTreeMap<u64, Client> = read(&self.clients)?.into_iter().collect();
        let gone: Vec<u64> = have.keys().filter(|netns| !clients.contains_key(netns)).copied().collect();
        delete(&self.clients, &gone)?;
        let mut room = (self.clients.capacity() as usize).saturating_sub(have.len() - gone.len());
        let mut left_out = 0;
        let mut writes = Vec::new();
        for (netns, client) in clients.iter().filter(|(netns, client)| have.get(netns) != Some(client)) {
            if have.contains_key(netns) {
                writes.push((*netns, *client));
            } else if room > 0 {
                room -= 1;
                writes.push((*netns, *client));
            } else {
                left_out += 1;
            }
        }
        put(&self.clients, writes.into_iter())?;
        Ok(left_out)
    }

    /// All entries of `clients`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn clients(&self) -> Result<Vec<(u64, Client)>, Error> {
        read(&self.clients)
    }

    /// All entries of `affinity`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn affinities(&self) -> Result<Vec<Kept>, Error> {
        let all = read::<AffinityKey, AffinityWords>(&self.affinity)?;
        Ok(all
            .into_iter()
            .map(|(key, words)| Kept { client: key.client, service: key.service, words })
            .collect())
    }

    /// Removes what has expired from `affinity`, and what is of service ports that have none: `seconds` has those that
    /// have, with their timeout. `now` is of the programs' clock,
    /// CLOCK_MONOTONIC of the machine in nanoseconds.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn sweep_affinity(&self, seconds: &BTreeMap<u32, u32>, now: u64) -> Result<Swept, Error> {
        let mut swept = Swept::default();
        for entry in self.affinities()? {
            let is_over = |words: &AffinityWords| {
                let timeout = seconds.get(&entry.service).map(|it| u64::from(*it) * 1_000_000_000);
                timeout.is_none_or(|timeout| now.saturating_sub(words.used) > timeout)
            };
            if !is_over(&entry.words) {
                swept.kept += 1;
                continue;
            }
            let key = AffinityKey { client: entry.client, service: entry.service, pad: 0 };
            let taken: Option<AffinityWords> = sys::take(self.affinity.fd(), &key)
                .map_err(self.affinity.error("BPF_MAP_LOOKUP_AND_DELETE_ELEM"))?;
            match taken {
                // A program has used it since it was read.
                Some(words) if !is_over(&words) => {
                    sys::insert(self.affinity.fd(), &key, &words)
                        .map_err(self.affinity.error("BPF_MAP_UPDATE_ELEM"))?;
                    swept.kept += 1;
                }
                Some(_) => swept.removed += 1,
                None => {}
            }
        }
        Ok(swept)
    }

    /// How many entries of the maps about clients and policies are in use.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn client_uses(&self) -> Result<[(&'static str, usize); 6], Error> {
        Ok([
            ("clients", self.clients()?.len()),
            ("affinity", self.affinities()?.len()),
            ("excluded", self.excluded()?.len()),
            ("limits", self.limits(0)?.len()),
            ("policies", self.policies()?.len()),
            ("exempt", self.exempt()?.len()),
        ])
    }

    /// Ids of the cgroups that are left alone.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn excluded(&self) -> Result<Vec<u64>, Error> {
        Ok(read::<u64, u32>(&self.excluded)?.into_iter().map(|(id, _)| id).collect())
    }

    /// Leaves the cgroups of these ids and all below them alone. What there is no room for is left out; how many are.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_excluded(&self, cgroups: &BTreeSet<u64>) -> Result<usize, Error> {
        let have: Vec<u64> = self.excluded()?;
        let new: Vec<u64> = cgroups.iter().filter(|id| !have.contains(id)).copied().collect();
        // The new ones come before the others go, so that a pod is not translated in between.
        let room = (self.excluded.capacity() as usize).saturating_sub(have.len());
        put(&self.excluded, new.iter().take(room).map(|id| (*id, 1u32)))?;
        let any = u32::from(!cgroups.is_empty());
        if self.settings()?.excluded != any {
            self.change_settings(|settings| settings.excluded = any)?;
        }
        let gone: Vec<u64> = have.into_iter().filter(|id| !cgroups.contains(id)).collect();
        delete(&self.excluded, &gone)?;
        Ok(new.len().saturating_sub(room))
    }
}
