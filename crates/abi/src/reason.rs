//! Verdicts and reasons: one list for the kernel's counters, events, metric labels and the command line.

/// The hook in which a decision was made.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// `connect()`.
    Connect = 0,
    /// `sendto()`, `sendmsg()` of UDP.
    Sendmsg = 1,
}

impl Hook {
    /// All of them, by number.
    pub const ALL: [Self; 2] = [Self::Connect, Self::Sendmsg];

    /// From its number.
    pub fn from_u8(value: u8) -> Option<Self> {
        Self::ALL.get(usize::from(value)).copied()
    }

    /// As events and labels have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Sendmsg => "sendmsg",
        }
    }
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Sent to a backend.
    Translated,
    /// Left alone.
    Passed,
    /// Failed with ECONNREFUSED (or ENOBUFS where the reason says so).
    Refused,
    /// Failed with EHOSTUNREACH.
    Unreachable,
    /// Failed with EACCES.
    Denied,
}

impl Verdict {
    /// As events and labels have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Translated => "translated",
            Self::Passed => "passed",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Denied => "denied",
        }
    }

    /// Did the application's call fail because of us?
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Refused | Self::Unreachable | Self::Denied)
    }
}

/// Why. The number is the index of the kernel's counter.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The destination is no frontend of ours.
    NotAService = 0,
    /// A backend was chosen.
    Balanced = 1,
    /// The socket stays on the backend that it has (R8).
    Sticky = 2,
    /// `balancing pause` is in force.
    Paused = 3,
    /// A connected, IPv4-mapped socket sends: the kernel shows the address that it is connected to (R9).
    Connected = 4,
    /// The service has no endpoint at all (R10).
    NoEndpoints = 5,
    /// The policy wants an endpoint on this node and there is none (R11).
    NoLocalEndpoint = 6,
    /// Chosen, but the socket's other destinations left no room to remember all: one of them was
    /// forgotten (R8: more than 8 pairs a socket).
    PairForgotten = 7,
    /// Chosen, but it could not be remembered: getpeername shows the backend.
    NotRemembered = 8,
    /// UDP, and it could not be remembered: ENOBUFS, since replies would come from a stranger.
    NoMemory = 9,
    /// The tables contradict themselves. Never happens; refused rather than sent astray.
    BrokenTable = 10,
    /// The address is a cluster IP, the port is none of its service's (R12).
    UnknownPort = 11,
    /// The address is in a ServiceCIDR, and no service has it (R12).
    UnusedAddress = 12,
    /// The address is that of a service that somebody else proxies (R12).
    ForeignService = 13,
    /// A node port of another node, external traffic policy Local: that node decides (R14).
    RemoteNodePort = 14,
    /// The client's address is in none of the ranges that may use the VIP (R22).
    SourceRange = 15,
    /// Who the client is must be known to use the VIP, and is not (R22).
    UnknownClient = 16,
    /// The backend that this client has had lately (R23).
    Affinity = 17,
    /// Chosen, but there is no room to remember it for the client (R23).
    AffinityFull = 18,
    /// The client is in a cgroup that is left alone (`--exclude-cgroup`).
    Excluded = 19,
    /// A policy has no backend: chosen as if it were not there (P5).
    Fallback = 20,
    /// A policy has reached its limit: chosen as if it were not there (P6).
    Spilled = 21,
    /// The client is one of the policy's own backends, and there is nothing below the policy: passed (P7).
    OwnBackend = 22,
}

impl Reason {
    /// All of them, by number.
    pub const ALL: [Self; 23] = [
        Self::NotAService,
        Self::Balanced,
        Self::Sticky,
        Self::Paused,
        Self::Connected,
        Self::NoEndpoints,
        Self::NoLocalEndpoint,
        Self::PairForgotten,
        Self::NotRemembered,
        Self::NoMemory,
        Self::BrokenTable,
        Self::UnknownPort,
        Self::UnusedAddress,
        Self::ForeignService,
        Self::RemoteNodePort,
        Self::SourceRange,
        Self::UnknownClient,
        Self::Affinity,
        Self::AffinityFull,
        Self::Excluded,
        Self::Fallback,
        Self::Spilled,
        Self::OwnBackend,
    ];

    /// From its number.
    pub fn from_u8(value: u8) -> Option<Self> {
        Self::ALL.get(usize::from(value)).copied()
    }

    /// Each reason has one verdict.
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::NotAService
            | Self::Paused
            | Self::Connected
            | Self::ForeignService
            | Self::RemoteNodePort
            | Self::UnknownClient
            | Self::Excluded
            | Self::OwnBackend => Verdict::Passed,
            Self::Balanced
            | Self::Sticky
            | Self::PairForgotten
            | Self::NotRemembered
            | Self::Affinity
            | Self::AffinityFull
            | Self::Fallback
            | Self::Spilled => Verdict::Translated,
            Self::NoEndpoints | Self::NoMemory | Self::BrokenTable | Self::UnknownPort => Verdict::Refused,
            Self::NoLocalEndpoint | Self::UnusedAddress => Verdict::Unreachable,
            Self::SourceRange => Verdict::Denied,
        }
    }

    /// Is it told of at the level that tells of failures? Those, and what should not have come to this.
    pub const fn is_notable(self) -> bool {
        self.verdict().is_failure()
            || matches!(
                self,
                Self::PairForgotten
                    | Self::NotRemembered
                    | Self::UnknownClient
                    | Self::AffinityFull
                    | Self::Spilled
            )
    }

    /// Is it told of at the level that tells of all? What is no service's is counted only, and so are sends of connected sockets.
    pub const fn is_told(self) -> bool {
        !matches!(self, Self::NotAService | Self::Connected)
    }

    /// As events, labels and the command line have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotAService => "not-a-service",
            Self::Balanced => "balanced",
            Self::Sticky => "sticky",
            Self::Paused => "paused",
            Self::Connected => "connected",
            Self::NoEndpoints => "no-endpoints",
            Self::NoLocalEndpoint => "no-local-endpoint",
            Self::PairForgotten => "pair-forgotten",
            Self::NotRemembered => "not-remembered",
            Self::NoMemory => "no-memory",
            Self::BrokenTable => "broken-table",
            Self::UnknownPort => "unknown-port",
            Self::UnusedAddress => "unused-address",
            Self::ForeignService => "foreign-service",
            Self::RemoteNodePort => "remote-node-port",
            Self::SourceRange => "source-range",
            Self::UnknownClient => "unknown-client",
            Self::Affinity => "affinity",
            Self::AffinityFull => "affinity-full",
            Self::Excluded => "excluded",
            Self::Fallback => "fallback",
            Self::Spilled => "spilled",
            Self::OwnBackend => "own-backend",
        }
    }
}

/// Why a policy did not decide about a connection to its frontend.
pub mod fallen {
    /// It did, or there is none.
    pub const NO: u8 = 0;
    /// It has no backend (P5).
    pub const NO_BACKEND: u8 = 1;
    /// It has reached its limit (P6).
    pub const LIMIT: u8 = 2;
    /// The client is one of its own backends (P7).
    pub const OWN_BACKEND: u8 = 3;
    /// The socket stays on the backend that it has fallen back to before.
    pub const STAYED: u8 = 4;

    /// As events have it; empty for [`NO`].
    pub const fn name(fallen: u8) -> &'static str {
        match fallen {
            NO_BACKEND => "no-backend",
            LIMIT => "limit",
            OWN_BACKEND => "own-backend",
            STAYED => "stayed",
            _ => "",
        }
    }
}

/// Entries of the per-CPU array `counters`: one for each hook, family and reason, and those below.
pub const COUNTERS: u32 = (Hook::ALL.len() * 2 * Reason::ALL.len()) as u32 + 2;

/// Index in `counters` of events that the ring buffer had no room for.
pub const COUNTER_LOST: u32 = COUNTERS - 1;

/// Index in `counters` of what there was no room for in [`crate::usage`].
pub const COUNTER_UNATTRIBUTED: u32 = COUNTERS - 2;

/// Index in `counters`.
#[inline(always)]
pub const fn counter(hook: Hook, v6: bool, reason: Reason) -> u32 {
    let row = (hook as u32) * 2 + v6 as u32;
    row * (Reason::ALL.len() as u32) + reason as u32
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn all_is_told_of_but_what_is_for_nobody() {
        let untold: std::vec::Vec<_> = Reason::ALL.into_iter().filter(|reason| !reason.is_told()).collect();
        assert_eq!(untold, [Reason::NotAService, Reason::Connected]);
        assert!(Reason::ALL.into_iter().all(|reason| reason.is_told() || !reason.is_notable()));
    }

    #[test]
    fn numbers_names_and_counters_are_one_list() {
        for (number, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
            assert_eq!(Reason::from_u8(number as u8), Some(reason));
        }
        assert_eq!(Reason::from_u8(Reason::ALL.len() as u8), None);
        let names: BTreeSet<_> = Reason::ALL.map(Reason::name).into();
        assert_eq!(names.len(), Reason::ALL.len());
        let mut counters = BTreeSet::from([COUNTER_LOST, COUNTER_UNATTRIBUTED]);
        for hook in Hook::ALL {
            for v6 in [false, true] {
                counters.extend(Reason::ALL.map(|reason| counter(hook, v6, reason)));
            }
        }
        assert_eq!(counters.len(), COUNTERS as usize);
        assert_eq!(counters.last(), Some(&(COUNTERS - 1)));
    }
}
