//! Who uses what, as read from the programs' counts. Pure: when it is, and what numbers mean, is given.

mod remembered;
mod tally;

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use abi::{
    Name, Reason,
    name::owner_kind,
    usage::{Client, Key},
};
use host::container::Place;
use jiff::Timestamp;
use model::{Kind, ObjectId, ObjectName};
use observe::{
    event::{Policy, Service, Who},
    usage::{BackendUse, ClientUse, Count, Locality, Usage},
};

use remembered::Remembered;
use tally::{Reading, Tally};

/// How often those are looked for that are gone.
const LOOK: Duration = Duration::from_secs(60);

/// Clients of services and reasons that are remembered, and backends: 10,000 services with ten endpoints each, were all of them
/// used here. As many as a hash table of a power of two can hold, 4 and 16 MiB.
const MOST: [usize; 2] = [28_672, 114_688];

/// Whose a service port is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Owner {
    kind: u8,
    namespace: String,
    name: String,
    port: String,
}

impl From<&Name> for Owner {
    fn from(name: &Name) -> Self {
        Self {
            kind: name.kind,
            namespace: Name::text(&name.namespace).into(),
            name: Name::text(&name.service).into(),
            port: Name::text(&name.port).into(),
        }
    }
}

impl Owner {
    /// The object.
    pub(crate) fn id(&self) -> ObjectId {
        let kind = match self.kind {
            owner_kind::LOCAL_REDIRECT => Kind::LocalRedirectPolicy,
            owner_kind::BALANCING => Kind::BalancingPolicy,
            _ => Kind::Service,
        };
        ObjectId { kind, name: ObjectName::new(self.namespace.as_str(), self.name.as_str()) }
    }

    fn service(&self) -> Option<Service> {
        (self.kind == owner_kind::SERVICE).then(|| Service {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            port: self.port.clone(),
        })
    }

    fn policy(&self) -> Option<Policy> {
        (self.kind != owner_kind::SERVICE)
            .then(|| Policy { kind: owner_kind::name(self.kind).into(), name: self.name.clone() })
    }
}

/// What the numbers in keys mean.
pub(crate) trait Meaning {
    /// Whose the service port with an id is, shared among all that it is counted for.
    fn owner(&mut self, service: u32) -> Option<Arc<Owner>>;
    /// The backend at an index, if it is of this generation; its lowest 31 bits.
    fn backend(&mut self, index: u32, generation: u32) -> Option<(Arc<Owner>, SocketAddr)>;
    /// Is there still such a service or policy?
    fn is_there(&mut self, owner: &Owner) -> bool;
    /// Whose processes a client's are, if that is a cgroup.
    fn place(&mut self, client: Client) -> Option<Arc<Place>>;
}

/// Where a backend is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Whereabouts {
    /// Namespace and name.
    pub(crate) pod: Option<(String, String)>,
    pub(crate) node: Option<String>,
    pub(crate) locality: Locality,
}

/// What was asked for, if it was a service, and the reason of the decision.
type Asked = (Option<Arc<Owner>>, u8);

/// All that is remembered.
#[derive(Debug)]
pub(crate) struct Ledger {
    clients: Remembered<(Client, Asked), Option<Arc<Place>>>,
    backends: Remembered<(Arc<Owner>, SocketAddr), ()>,
    /// The last one.
    reading: Reading,
    read: Option<Timestamp>,
    /// When those were last forgotten that are gone.
    looked: Duration,
    seconds: f64,
    unattributed: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            clients: Remembered::new(MOST[0]),
            backends: Remembered::new(MOST[1]),
            reading: Reading::default(),
            read: None,
            looked: Duration::ZERO,
            seconds: 0.0,
            unattributed: 0,
        }
    }
}

impl Ledger {
    /// Adds what was counted since the last time, and says how much of it is nobody's that is known, or had no room. `now` is
    /// since the agent started, `time` the same in the world.
    pub(crate) fn add(
        &mut self,
        counted: HashMap<Key, u64>,
        meaning: &mut impl Meaning,
        now: Duration,
        time: Timestamp,
    ) -> u64 {
        self.seconds = now.saturating_sub(self.reading.now).as_secs_f64();
        self.reading = Reading { number: self.reading.number + 1, now };
        self.read = Some(time);
        let (mut clients, mut backends, mut left_out) = (HashMap::new(), HashMap::new(), 0);
        for (key, count) in counted {
            match key {
                Key::Client { client, service, reason } => {
                    let owner = service.and_then(|service| meaning.owner(service));
                    *clients.entry((client, (owner, reason))).or_default() += count;
                }
                Key::Backend { index, generation } => match meaning.backend(index, generation) {
                    Some(key) => *backends.entry(key).or_default() += count,
                    None => left_out += count,
                },
            }
        }
        left_out += self.clients.add(clients, self.reading, |(client, _)| meaning.place(*client));
        left_out += self.backends.add(backends, self.reading, |_| ());
        self.unattributed += left_out;
        if now.saturating_sub(self.looked) >= LOOK {
            self.looked = now;
            self.clients
                .forget(now, |(_, (owner, _))| owner.as_ref().is_none_or(|owner| meaning.is_there(owner)));
            self.backends.forget(now, |(owner, _)| meaning.is_there(owner));
        }
        left_out
    }

    /// With names; with `recent` only what was used between the last two readings. `unattributed` is what the programs had no
    /// room to count.
    pub(crate) fn usage(
        &self,
        recent: bool,
        unattributed: u64,
        mut who: impl FnMut(Client, Option<&Place>) -> Who,
        mut whereabouts: impl FnMut(&Owner, SocketAddr) -> Whereabouts,
    ) -> Usage {
        let Some(time) = self.read else { return Usage::default() };
        let (reading, now) = (self.reading, self.reading.now);
        let is_wanted = |tally: &Tally| !recent || tally.is_of(reading);
        let at = |last: Duration| {
            time.checked_sub(jiff::SignedDuration::try_from(now.saturating_sub(last)).unwrap_or_default())
                .unwrap_or(time)
        };
        // Several cgroups may be one container's.
        let mut clients: HashMap<(Who, Asked), (Count, Option<Duration>)> = HashMap::new();
        for ((client, (owner, reason)), place, tally) in self.clients.iter().filter(|(.., it)| is_wanted(it))
        {
            let key = (who(*client, place.as_deref()), (owner.clone(), *reason));
            let (sum, last) = clients.entry(key).or_default();
            let count = tally.count(reading);
            sum.total += count.total;
            sum.recent += count.recent;
            sum.minute += count.minute;
            *last = tally.last().max(*last);
        }
        let mut clients: Vec<ClientUse> = clients
            .into_iter()
            .map(|((client, (owner, reason)), (count, last))| {
                let reason = Reason::from_u8(reason);
                ClientUse {
                    client,
                    service: owner.as_ref().and_then(|owner| owner.service()),
                    policy: owner.as_ref().and_then(|owner| owner.policy()),
                    verdict: reason.map_or("unknown", |reason| reason.verdict().name()).into(),
                    reason: reason.map_or("unknown", Reason::name).into(),
                    count,
                    last: last.map(at),
                }
            })
            .collect();
        let mut backends: Vec<BackendUse> = self
            .backends
            .iter()
            .filter(|(.., tally)| is_wanted(tally))
            .map(|((owner, address), (), tally)| {
                let Whereabouts { pod, node, locality } = whereabouts(owner, *address);
                let (namespace, pod) = pod.unzip();
                BackendUse {
                    service: owner.service(),
                    policy: owner.policy(),
                    ip: address.ip(),
                    port: address.port(),
                    namespace,
                    pod,
                    node,
                    locality,
                    count: tally.count(reading),
                }
            })
            .collect();
        clients.sort_by(|a, b| (b.count.minute, &a.client).cmp(&(a.count.minute, &b.client)));
        backends.sort_by_key(|it| (std::cmp::Reverse(it.count.minute), it.ip, it.port));
        let unattributed = self.unattributed + unattributed;
        Usage { time: Some(time), seconds: self.seconds, clients, backends, unattributed }
    }
}

#[cfg(test)]
mod tests;
