//! What this process may do.

use std::fmt;

use crate::error::{Error, Result, read};

/// A capability that Balancing has a use for; the value is its number in linux/capability.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Capability {
    /// Attach to cgroups and interfaces.
    NetAdmin = 12,
    /// Mount bpffs, enter namespaces; includes the meaning of `Bpf` and `Perfmon`.
    SysAdmin = 21,
    /// Load programs whose arithmetic with pointers the verifier refuses to strangers, as it does with ours.
    Perfmon = 38,
    /// Load programs, create maps.
    Bpf = 39,
}

impl Capability {
    /// The least that the agent works with. To mount a bpffs where there is none takes [`Self::SysAdmin`], and to
    /// read what belongs to others that of files.
    pub const NEEDED: [Self; 3] = [Self::Bpf, Self::NetAdmin, Self::Perfmon];

    /// Every one.
    pub const ALL: [Self; 4] = [Self::NetAdmin, Self::SysAdmin, Self::Perfmon, Self::Bpf];
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        })
    }
}

/// A set of capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Those in effect for this process.
    pub fn effective() -> Result<Self> {
        let status = read("/proc/self/status")?;
        Self::parse(&status).ok_or(Error::Malformed { file: "/proc/self/status", what: "line `CapEff:`" })
    }

    fn parse(status: &str) -> Option<Self> {
        let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(mask.trim(), 16).ok().map(Self)
    }

    /// Whether the set allows what `capability` stands for.
    pub fn allow(self, capability: Capability) -> bool {
        let has = |capability: Capability| self.0 & (1 << capability as u8) != 0;
        // The kernel asks for CAP_BPF *or* CAP_SYS_ADMIN, and likewise for CAP_PERFMON.
        let implied =
            matches!(capability, Capability::Bpf | Capability::Perfmon) && has(Capability::SysAdmin);
        has(capability) || implied
    }

    /// Which of `wanted` the set does not allow.
    pub fn missing(self, wanted: &[Capability]) -> Vec<Capability> {
        wanted.iter().copied().filter(|&capability| !self.allow(capability)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(mask: &str) -> Capabilities {
        Capabilities::parse(&format!("Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t{mask}\n")).unwrap()
    }

    #[test]
    fn all_and_none() {
        assert_eq!(parse("000001ffffffffff").missing(&Capability::ALL), []);
        assert_eq!(parse("0000000000000000").missing(&Capability::ALL), Capability::ALL);
    }

    #[test]
    fn admin_includes_bpf_but_not_the_network() {
        assert_eq!(parse("0000000000200000").missing(&Capability::ALL), [Capability::NetAdmin]);
    }

    #[test]
    fn single_ones() {
        let some = parse("0000008000001000");
        assert_eq!(some.missing(&Capability::ALL), [Capability::SysAdmin, Capability::Perfmon]);
        assert_eq!(Capability::Bpf.to_string(), "CAP_BPF");
    }

    #[test]
    fn this_process_has_some_set() {
        assert!(Capabilities::effective().is_ok());
        assert_eq!(Capabilities::parse("Name:\tx\n"), None);
    }
}
