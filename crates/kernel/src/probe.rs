//! What this kernel can do, found out by asking it, never by its version.

use std::os::fd::{AsFd, OwnedFd};

use abi::feature;

use crate::{
    btf,
    code::{EXIT, add, call, copy, set},
    sys,
};

/// A feature, and whether the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// What it is, in the kernel's words.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// Bit of [`abi::feature`], if the programs can do without it; 0 where they need not be told.
    pub optional: Option<u32>,
    /// What the kernel said; `None` if it has it.
    pub problem: Option<String>,
}

const CONNECT4: u32 = 10;

struct Helper {
    name: &'static str,
    purpose: &'static str,
    optional: Option<u32>,
    /// A call with arguments that make the verifier take it.
    code: Vec<u64>,
}

/// Helpers that the programs call.
fn helpers() -> [Helper; 9] {
    let helper = |name, purpose, optional, code| Helper { name, purpose, optional, code };
    [
        helper("bpf_get_socket_cookie", "peer addresses, sticky UDP", None, vec![call(46)]),
        helper("bpf_get_netns_cookie", "the client's network namespace", None, vec![call(122)]),
        helper("bpf_ktime_get_coarse_ns", "the time of events", None, vec![call(160)]),
        helper(
            "bpf_set_retval",
            "ECONNREFUSED for services without endpoints; without it, EPERM",
            Some(feature::SET_RETVAL),
            vec![set(1, -111), call(187)],
        ),
        helper(
            "bpf_get_current_pid_tgid",
            "the client's process in events",
            Some(feature::PID),
            vec![call(14)],
        ),
        helper(
            "bpf_get_current_comm",
            "the client's name in events",
            Some(feature::COMM),
            vec![copy(1, 10), add(1, -16), set(2, 16), call(16)],
        ),
        helper("bpf_get_current_uid_gid", "the client's user in events", Some(feature::UID), vec![call(15)]),
        helper(
            "bpf_get_current_cgroup_id",
            "the client's pod in events",
            Some(feature::CGROUP),
            vec![call(80)],
        ),
        helper(
            "bpf_get_current_ancestor_cgroup_id",
            "leaving cgroups alone (excludeCgroup)",
            Some(feature::ANCESTOR),
            vec![set(1, 0), call(123)],
        ),
    ]
}

fn load(mut code: Vec<u64>) -> std::io::Result<OwnedFd> {
    code.extend([set(0, 1), EXIT]);
    sys::program_load(sys::CGROUP_SOCK_ADDR, CONNECT4, &code)
}

/// Asks the kernel for everything that the programs use. Needs the rights to load programs.
pub fn features() -> Vec<Feature> {
    let program = Feature {
        name: "cgroup/connect4",
        purpose: "services where connections begin",
        optional: None,
        problem: load(Vec::new()).err().map(|error| error.to_string()),
    };
    let watch = Feature {
        name: "tracepoint cgroup_mkdir",
        purpose: "the pod, in events, of clients whose cgroup is gone at once",
        optional: Some(0),
        problem: btf::offsets().and_then(|_| open_tracepoint()).err().map(|error| error.to_string()),
    };
    std::iter::once(program).chain(helper_features()).chain([watch]).collect()
}

fn helper_features() -> impl Iterator<Item = Feature> {
    helpers().into_iter().map(|Helper { name, purpose, optional, code }| Feature {
        name,
        purpose,
        optional,
        problem: load(code).err().map(|error| error.to_string()),
    })
}

/// Attaches a program that does nothing, for a moment.
fn open_tracepoint() -> std::io::Result<()> {
    let program = sys::program_load(sys::RAW_TRACEPOINT, 0, &[set(0, 0), EXIT])?;
    sys::raw_tracepoint(program.as_fd(), c"cgroup_mkdir").map(drop)
}

/// Bits of [`abi::feature`] that this kernel has.
pub fn optional_features() -> u32 {
    let found = helper_features().filter(|feature| feature.problem.is_none());
    found.filter_map(|feature| feature.optional).fold(0, |bits, bit| bits | bit)
}
