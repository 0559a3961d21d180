//! Who is a backend of what, since when, until when, and who was reached when.
//!
//! A change counts from the moment the manifest file is in place, or, if the agent is down then or dies within
//! the second after it, from the agent's return.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

/// When a change must have reached the kernel (R6).
pub const REACH: Duration = Duration::from_secs(1);

/// Of a member that has not been removed.
const NEVER: u64 = u64::MAX;

/// One backend, from when it is added to when it is removed. A later one at the same address is another.
#[derive(Debug)]
pub struct Member {
    /// Number of its service.
    pub service: usize,
    /// What it answers with.
    pub name: String,
    /// Where it listens, both families.
    pub ips: [IpAddr; 2],
    /// Microseconds since the beginning.
    added: AtomicU64,
    removed: AtomicU64,
    leaving: AtomicBool,
    /// End of the first exchange with it.
    first: AtomicU64,
    /// Beginning of the last exchange with it that was begun.
    last: AtomicU64,
}

impl Member {
    /// Has its removal begun? The agent may know of it before [`Roster::removed`] is told.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(SeqCst)
    }

    /// Its removal begins: the manifests are about to say so.
    pub fn leave(&self) {
        self.leaving.store(true, SeqCst);
    }
}

/// Everybody, and when the agent was down.
#[derive(Debug)]
pub struct Roster {
    beginning: Instant,
    members: RwLock<Vec<Arc<Member>>>,
    outages: Mutex<Vec<(u64, Option<u64>)>>,
}

impl Default for Roster {
    fn default() -> Self {
        Self { beginning: Instant::now(), members: RwLock::default(), outages: Mutex::default() }
    }
}

impl Roster {
    /// Microseconds since the beginning.
    pub fn now(&self) -> u64 {
        u64::try_from(self.beginning.elapsed().as_micros()).unwrap_or(NEVER)
    }

    /// A new member, about to be added to the manifests.
    pub fn add(&self, service: usize, ips: [IpAddr; 2]) -> Arc<Member> {
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        let member = Arc::new(Member {
            service,
            name: format!("m{}", members.len()),
            ips,
            added: AtomicU64::new(self.now()),
            removed: AtomicU64::new(NEVER),
            leaving: AtomicBool::new(false),
            first: AtomicU64::new(NEVER),
            last: AtomicU64::new(0),
        });
        members.push(Arc::clone(&member));
        member
    }

    /// The manifests say that it is a member.
    pub fn added(&self, member: &Member) {
        member.added.store(self.now(), SeqCst);
    }

    /// The manifests no longer say that it is a member.
    pub fn removed(&self, member: &Member) {
        member.removed.store(self.now(), SeqCst);
    }

    /// The agent is down from now on.
    pub fn down(&self) {
        let now = self.now();
        let mut outages = self.outages.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was killed before it was up was never there.
        if outages.last().is_none_or(|(_, up)| up.is_some()) {
            outages.push((now, None));
        }
    }

    /// The agent is back.
    pub fn up(&self) {
        let now = self.now();
        let mut outages = self.outages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, up)) = outages.last_mut() {
            up.get_or_insert(now);
        }
    }

    /// When the agent was down, in microseconds since the beginning.
    pub fn outages(&self) -> Vec<(u64, Option<u64>)> {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From when a change made at `time` counts; `None` while the agent is down.
    fn counts_from(&self, time: u64) -> Option<u64> {
        let reach = u64::try_from(REACH.as_micros()).unwrap_or_default();
        let mut from = time;
        for (down, up) in self.outages() {
            if down <= from + reach && up.is_none_or(|up| up > from) {
                from = up?;
            }
        }
        Some(from)
    }

    /// Is it time for a removed backend to close?
    pub fn may_close(&self, member: &Member) -> bool {
        let from = self.counts_from(member.removed.load(SeqCst));
        from.is_some_and(|from| self.now() >= from + REACH.as_micros() as u64)
    }

    /// An exchange with `service`, begun at `begun`, was answered by `name`.
    ///
    /// # Errors
    /// That is not one of the service's backends.
    pub fn answered(&self, service: usize, name: &str, begun: u64) -> Result<Arc<Member>, String> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        let number = name.strip_prefix('m').and_then(|number| number.parse::<usize>().ok());
        let member = number.and_then(|number| members.get(number)).ok_or(format!("who is {name}?"))?;
        if member.service != service {
            return Err(format!("service {service} was answered by {name} of service {}", member.service));
        }
        member.first.fetch_min(self.now(), SeqCst);
        member.last.fetch_max(begun, SeqCst);
        Ok(Arc::clone(member))
    }

    /// How long changes took to have effect, and what took too long.
    pub fn judge(&self) -> Judgement {
        let mut judgement = Judgement::default();
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        for member in members.iter() {
            let removed = member.removed.load(SeqCst);
            let last = member.last.load(SeqCst);
            if removed != NEVER
                && let Some(from) = self.counts_from(removed)
            {
                let delay = Duration::from_micros(last.saturating_sub(from));
                judgement.removal = judgement.removal.max(delay);
                if delay > REACH {
                    let text = format!("{} was reached {delay:?} after its removal counted", member.name);
                    judgement.late.push(text);
                }
            }
            let Some(from) = self.counts_from(member.added.load(SeqCst)) else { continue };
            let delay = Duration::from_micros(member.first.load(SeqCst).min(now).saturating_sub(from));
            // It must have been a member for long enough for its turn to have come.
            if removed.min(now) > from + 3 * REACH.as_micros() as u64 {
                judgement.addition = judgement.addition.max(delay);
                if delay > REACH {
                    let text = format!("{} was first reached {delay:?} after its addition", member.name);
                    judgement.late.push(text);
                }
            }
        }
        judgement
    }

    /// Where a removed member's successor may listen; both families.
    pub fn address(service: usize, place: usize) -> [IpAddr; 2] {
        let (high, low) = (service as u8 + 1, place as u8 + 1);
        [
            IpAddr::from([10, 1, high, low]),
            IpAddr::from([0xfd00, 1, 0, 0, 0, 0, u16::from(high), u16::from(low)]),
        ]
    }

    /// A service's VIP.
    pub fn vip(service: usize, v6: bool) -> SocketAddr {
        let low = service as u8 + 10;
        let ip = if v6 {
            IpAddr::from([0xfd00, 0x96, 0, 0, 0, 0, 0, u16::from(low)])
        } else {
            IpAddr::from([10, 96, 0, low])
        };
        SocketAddr::new(ip, 80)
    }
}

/// How long changes took.
#[derive(Debug, Default)]
pub struct Judgement {
    /// The longest from a removal to the beginning of the last exchange with the removed one.
    pub removal: Duration,
    /// The longest from an addition to the end of the first exchange with the added one.
    pub addition: Duration,
    /// What took too long.
    pub late: Vec<String>,
}
