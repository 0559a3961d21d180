//! Who uses what, as read from the programs' counts. Pure: when it is, and what numbers mean, is given.

use std::{collections::HashMap, hash::Hash, net::SocketAddr, sync::Arc, time::Duration};

use abi::{Name, Reason, name::owner_kind, usage::Key};
use host::container::Place;
use jiff::Timestamp;
use model::{Kind, ObjectId, ObjectName};
use observe::{
    event::{Policy, Service, Who},
    usage::{BackendUse, ClientUse, Count, Locality, Usage},
};

/// Clients of services that are remembered, and backends.
const MOST: [usize; 2] = [16_384, 65_536];
/// Where there are more, those go that have been idle for so long; shorter and shorter until there is room.
const IDLE: [Duration; 3] = [Duration::from_secs(600), Duration::from_secs(120), Duration::from_secs(60)];

/// A minute is counted in parts, of which the oldest goes as a whole.
const PARTS: usize = 12;
const PART: Duration = Duration::from_secs(5);

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
    /// Whose processes a cgroup has.
    fn place(&mut self, cgroup: u64) -> Option<Arc<Place>>;
}

/// Where a backend is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Whereabouts {
    /// Namespace and name.
    pub(crate) pod: Option<(String, String)>,
    pub(crate) node: Option<String>,
    pub(crate) locality: Locality,
}

#[derive(Debug, Clone, Default)]
struct Tally {
    total: u64,
    /// Counted in the reading with this number.
    recent: (u64, u64),
    parts: [u64; PARTS],
    /// The part that the last count went to.
    part: u64,
    last: Duration,
}

impl Tally {
    fn add(&mut self, count: u64, reading: u64, now: Duration) {
        self.forget(now);
        self.total += count;
        self.recent = (reading, if self.recent.0 == reading { self.recent.1 + count } else { count });
        self.parts[(part(now) % PARTS as u64) as usize] += count;
        self.last = now;
    }

    /// Empties the parts that are over a minute old.
    fn forget(&mut self, now: Duration) {
        let now = part(now);
        for old in self.part + 1..=now.min(self.part + PARTS as u64) {
            self.parts[(old % PARTS as u64) as usize] = 0;
        }
        self.part = self.part.max(now);
    }

    fn count(&self, reading: u64, now: Duration) -> Count {
        let mut tally = self.clone();
        tally.forget(now);
        let recent = if self.recent.0 == reading { self.recent.1 } else { 0 };
        Count { total: self.total, recent, minute: tally.parts.iter().sum() }
    }
}

fn part(at: Duration) -> u64 {
    at.as_secs() / PART.as_secs()
}

/// What was asked for, if it was a service, and the reason of the decision.
type Asked = (Option<Arc<Owner>>, u8);

#[derive(Debug)]
struct Client {
    place: Option<Arc<Place>>,
    tally: Tally,
}

/// All that is remembered.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By cgroup.
    clients: HashMap<(u64, Asked), Client>,
    backends: HashMap<(Arc<Owner>, SocketAddr), Tally>,
    /// How many times the counts were read.
    reading: u64,
    read: Option<(Duration, Timestamp)>,
    seconds: f64,
    unattributed: u64,
}

impl Ledger {
    /// Adds what was counted since the last time. `now` is since the agent started, `time` the same in the world.
    pub(crate) fn add(
        &mut self,
        counted: HashMap<Key, u64>,
        meaning: &mut impl Meaning,
        now: Duration,
        time: Timestamp,
    ) {
        self.reading += 1;
        self.seconds = now.saturating_sub(self.read.map_or(Duration::ZERO, |(at, _)| at)).as_secs_f64();
        self.read = Some((now, time));
        for (key, count) in counted {
            let added = match key {
                Key::Client { cgroup, service, reason } => {
                    let owner = service.and_then(|service| meaning.owner(service));
                    let key = (cgroup, (owner, reason));
                    make_room(&mut self.clients, &key, MOST[0], now, |it| it.tally.last).then(|| {
                        let new = || Client { place: meaning.place(cgroup), tally: Tally::default() };
                        let client = self.clients.entry(key).or_insert_with(new);
                        client.tally.add(count, self.reading, now);
                    })
                }
                Key::Backend { index, generation } => meaning
                    .backend(index, generation)
                    .filter(|key| make_room(&mut self.backends, key, MOST[1], now, |tally| tally.last))
                    .map(|key| self.backends.entry(key).or_default().add(count, self.reading, now)),
            };
            if added.is_none() {
                self.unattributed += count;
            }
        }
    }

    /// With names; with `recent` only what was used between the last two readings. `unattributed` is what the programs had no
    /// room to count.
    pub(crate) fn usage(
        &self,
        recent: bool,
        unattributed: u64,
        mut who: impl FnMut(Option<&Place>) -> Who,
        mut whereabouts: impl FnMut(&Owner, SocketAddr) -> Whereabouts,
    ) -> Usage {
        let Some((now, time)) = self.read else { return Usage::default() };
        let is_wanted = |tally: &Tally| !recent || tally.recent.0 == self.reading;
        let at = |last: Duration| {
            time.checked_sub(jiff::SignedDuration::try_from(now.saturating_sub(last)).unwrap_or_default())
                .unwrap_or(time)
        };
        // Several cgroups may be one container's.
        let mut clients: HashMap<(Who, Asked), (Count, Duration)> = HashMap::new();
        for ((_, (owner, reason)), client) in self.clients.iter().filter(|(_, it)| is_wanted(&it.tally)) {
            let key = (who(client.place.as_deref()), (owner.clone(), *reason));
            let (sum, last) = clients.entry(key).or_default();
            let count = client.tally.count(self.reading, now);
            sum.total += count.total;
            sum.recent += count.recent;
            sum.minute += count.minute;
            *last = client.tally.last.max(*last);
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
                    last: at(last),
                }
            })
            .collect();
        let mut backends: Vec<BackendUse> = self
            .backends
            .iter()
            .filter(|(_, tally)| is_wanted(tally))
            .map(|((owner, address), tally)| {
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
                    count: tally.count(self.reading, now),
                }
            })
            .collect();
        clients.sort_by(|a, b| (b.count.minute, &a.client).cmp(&(a.count.minute, &b.client)));
        backends.sort_by_key(|it| (std::cmp::Reverse(it.count.minute), it.ip, it.port));
        let unattributed = self.unattributed + unattributed;
        Usage { time: Some(time), seconds: self.seconds, clients, backends, unattributed }
    }
}

/// Is there room for `key`? If not, idle ones go.
fn make_room<K: Eq + Hash, V>(
    map: &mut HashMap<K, V>,
    key: &K,
    most: usize,
    now: Duration,
    last: impl Fn(&V) -> Duration,
) -> bool {
    if map.len() < most || map.contains_key(key) {
        return true;
    }
    IDLE.into_iter().any(|idle| {
        map.retain(|_, it| now.saturating_sub(last(it)) < idle);
        map.len() < most
    })
}

#[cfg(test)]
mod tests;
