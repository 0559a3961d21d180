//! What was decided; choosing a backend.

use crate::{Env, Found};
use abi::{Backend, Endpoint, Reason, Record, Verdict, frontend::record_flag, slot::Ids};

/// What was decided, and what events tell of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Why; the verdict follows from it.
    pub reason: Reason,
    /// Where the connection goes: set if and only if the verdict is "translated".
    pub backend: Endpoint,
    /// Index and generation of that backend.
    pub ids: Ids,
    /// Service port id; 0 where `mode` is 0.
    pub service: u32,
    /// [`abi::frontend::mode`]; 0 = no service.
    pub mode: u8,
    /// [`abi::reason::fallen`]: why the first policy of the frontend did not decide.
    pub fallen: u8,
}

impl Decision {
    /// A decision without a service.
    #[inline(always)]
    pub const fn none(found: Found, reason: Reason) -> Self {
        let backend = Endpoint { address: abi::Address([0; 4]), port_be: 0 };
        let ids = Ids { backend: 0, generation: 0 };
        Self { reason, backend, ids, service: 0, mode: 0, fallen: found.fallen }
    }

    /// A decision for `record` that goes nowhere.
    #[inline(always)]
    pub(crate) const fn fail(found: Found, record: &Record, reason: Reason) -> Self {
        let mut decision = Self::none(found, reason);
        decision.service = record.service;
        decision.mode = record.mode;
        decision
    }

    /// A decision for `record` that goes to `backend`.
    #[inline(always)]
    pub(crate) const fn to(
        found: Found,
        record: &Record,
        backend: Endpoint,
        ids: Ids,
        reason: Reason,
    ) -> Self {
        Self { reason, backend, ids, service: record.service, mode: record.mode, fallen: found.fallen }
    }
}

/// A chosen backend, or the reason why there is none. Numbers only: what is read of the backend is read once, when all
/// ways of choosing have met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Why it was chosen, or why there is none.
    pub reason: Reason,
    /// Index of the backend.
    pub backend: u32,
    /// Where it stands in `lists`; [`Choice::UNLISTED`] = it was found otherwise.
    pub listed: u32,
}

impl Choice {
    /// No position in `lists`.
    pub(crate) const UNLISTED: u32 = u32::MAX;

    /// None, and why.
    #[inline(always)]
    pub(crate) const fn none(reason: Reason) -> Self {
        Self::known(reason, u32::MAX)
    }

    /// The backend at an index.
    #[inline(always)]
    pub(crate) const fn known(reason: Reason, backend: u32) -> Self {
        Self { reason, backend, listed: Self::UNLISTED }
    }

    /// Is there one?
    #[inline(always)]
    pub const fn is_some(&self) -> bool {
        matches!(self.reason.verdict(), Verdict::Translated)
    }

    /// The backend; [`Reason::BrokenTable`] if the index points to nothing, or to another service's backend.
    #[inline(always)]
    pub fn backend<'a, E: Env>(&self, env: &'a E, record: &Record) -> (Option<E::Ref<'a, Backend>>, Reason) {
        if !self.is_some() {
            return (None, self.reason);
        }
        // A list's element has all that it takes, next to the others.
        let backend =
            if self.listed == Self::UNLISTED { env.backend(self.backend) } else { env.listed(self.listed) };
        match backend {
            Some(backend) if backend.service == record.service => (Some(backend), self.reason),
            _ => (None, Reason::BrokenTable),
        }
    }
}

/// Chooses one backend of `record` at random; where `avoid` rejects it, the next ones in the list, up to
/// `tries` in all, and where it rejects all of those the last.
#[inline(always)]
pub fn choose<E: Env>(env: &E, record: &Record, tries: u32, avoid: impl Fn(&Endpoint) -> bool) -> Choice {
    let len = record.local.len;
    if len == 0 {
        let elsewhere = record.flags & record_flag::HAS_ANY != 0;
        return Choice::none(if elsewhere { Reason::NoLocalEndpoint } else { Reason::NoEndpoints });
    }
    // Multiply and shift: as even as a remainder, and cheaper.
    let mut offset = ((u64::from(env.random()) * u64::from(len)) >> 32) as u32;
    let mut choice = at(env, record, offset);
    for _ in 1..tries {
        let (backend, _) = choice.backend(env, record);
        let Some(backend) = backend else { return choice };
        if !avoid(&backend.endpoint()) {
            return choice;
        }
        offset += 1;
        if offset >= len {
            offset = 0;
        }
        choice = at(env, record, offset);
    }
    choice
}

/// What is at one place of a record's list.
#[inline(always)]
pub fn at<E: Env>(env: &E, record: &Record, offset: u32) -> Choice {
    let listed = record.local.start.wrapping_add(offset);
    match env.listed(listed) {
        Some(element) => Choice { reason: Reason::Balanced, backend: element.index, listed },
        None => Choice::none(Reason::BrokenTable),
    }
}
