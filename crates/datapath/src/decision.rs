//! Looking up a frontend and choosing a backend.

use crate::Env;
use abi::{Endpoint, Key, Reason, Record, frontend::record_flag, slot::Ids};

/// What was decided, and what events tell of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Why; the verdict follows from it.
    pub reason: Reason,
    /// Where the connection goes: set if and only if the verdict is "translated".
    pub backend: Endpoint,
    /// [`abi::frontend::backend_flag`]s of that backend.
    pub backend_flags: u16,
    /// Service port id; 0 where `mode` is 0.
    pub service: u32,
    /// [`abi::frontend::mode`]; 0 = no service.
    pub mode: u8,
}

impl Decision {
    /// A decision without a service.
    #[inline(always)]
    pub const fn none(reason: Reason) -> Self {
        let backend = Endpoint { address: abi::Address([0; 4]), port_be: 0 };
        Self { reason, backend, backend_flags: 0, service: 0, mode: 0 }
    }

    /// A decision for `record` that goes nowhere.
    #[inline(always)]
    pub(crate) const fn fail(record: &Record, reason: Reason) -> Self {
        let mut decision = Self::none(reason);
        decision.service = record.service;
        decision.mode = record.mode;
        decision
    }

    /// A decision for `record` that goes to `choice`.
    #[inline(always)]
    pub(crate) const fn to(record: &Record, choice: &Choice, reason: Reason) -> Self {
        Self {
            reason,
            backend: choice.endpoint,
            backend_flags: choice.flags,
            service: record.service,
            mode: record.mode,
        }
    }
}

/// A chosen backend, or the reason why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// [`Reason::Balanced`], or why there is none: the rest is zero then.
    pub reason: Reason,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Index and generation.
    pub ids: Ids,
    /// [`abi::frontend::backend_flag`]s.
    pub flags: u16,
}

impl Choice {
    /// None, and why.
    #[inline(always)]
    pub(crate) const fn none(reason: Reason) -> Self {
        let endpoint = Endpoint { address: abi::Address([0; 4]), port_be: 0 };
        Self { reason, endpoint, ids: Ids { backend: 0, generation: 0 }, flags: 0 }
    }

    /// Is there one?
    #[inline(always)]
    pub const fn is_some(&self) -> bool {
        matches!(self.reason, Reason::Balanced)
    }
}

/// How often a reader that met a reused hash element looks again before it gives up.
const LOOK_UPS: u32 = 4;

/// The record of a frontend; if there is none, [`Reason::NotAService`] or [`Reason::BrokenTable`] says why.
#[inline(always)]
pub fn look_up<'a, E: Env>(env: &'a E, key: &Key) -> (Option<E::Ref<'a, Record>>, Reason) {
    // A bpf hash hands the element of a replaced value to the next update without a grace period, so the
    // index may be another frontend's; the record repeats its key.
    for _ in 0..LOOK_UPS {
        let Some(index) = env.frontend(key) else { return (None, Reason::NotAService) };
        let Some(record) = env.record(index) else { return (None, Reason::BrokenTable) };
        if record.key() == *key {
            return (Some(record), Reason::Balanced);
        }
    }
    (None, Reason::BrokenTable)
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
        if !choice.is_some() || !avoid(&choice.endpoint) {
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

/// The backend at one place of a record's list; [`Reason::BrokenTable`] if that points to nothing, or to
/// another service's backend.
#[inline(always)]
pub fn at<E: Env>(env: &E, record: &Record, offset: u32) -> Choice {
    let position = record.local.start.wrapping_add(offset);
    let Some(index) = env.listed(position) else { return Choice::none(Reason::BrokenTable) };
    let Some(backend) = env.backend(index) else { return Choice::none(Reason::BrokenTable) };
    if backend.service != record.service {
        return Choice::none(Reason::BrokenTable);
    }
    let ids = Ids { backend: index, generation: backend.generation };
    Choice { reason: Reason::Balanced, endpoint: backend.endpoint(), ids, flags: backend.flags }
}
