//! What this kernel can do, found out by asking it, never by its version.

use std::os::fd::OwnedFd;

use crate::sys;

/// A feature, and whether the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// What it is, in the kernel's words.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// What the kernel said; empty if it has it.
    pub problem: Option<String>,
}

const CGROUP_SOCK_ADDR: u32 = 18;
const CONNECT4: u32 = 10;

// Instructions, as 64-bit words (Documentation/bpf/standardization/instruction-set.rst): code 8 bits, destination
// and source register 4 bits each, offset 16, immediate 32.
const fn instruction(code: u8, destination: u8, source: u8, immediate: i32) -> u64 {
    code as u64 | (destination as u64) << 8 | (source as u64) << 12 | (immediate as u32 as u64) << 32
}

const fn set(register: u8, value: i32) -> u64 {
    instruction(0xb7, register, 0, value)
}

const fn copy(to: u8, from: u8) -> u64 {
    instruction(0xbf, to, from, 0)
}

const fn add(register: u8, value: i32) -> u64 {
    instruction(0x07, register, 0, value)
}

const fn call(helper: i32) -> u64 {
    instruction(0x85, 0, 0, helper)
}

const EXIT: u64 = instruction(0x95, 0, 0, 0);

/// Helpers that the programs call, with the arguments that make the verifier take the call, and what for.
fn helpers() -> [(&'static str, &'static str, Vec<u64>); 8] {
    [
        (
            "bpf_set_retval",
            "ECONNREFUSED for services without endpoints (kernel 5.18)",
            vec![set(1, -111), call(187)],
        ),
        ("bpf_get_socket_cookie", "peer addresses, sticky UDP", vec![call(46)]),
        ("bpf_get_netns_cookie", "the client's network namespace in events", vec![call(122)]),
        ("bpf_get_current_pid_tgid", "the client's process in events", vec![call(14)]),
        ("bpf_get_current_uid_gid", "the client's user in events", vec![call(15)]),
        (
            "bpf_get_current_comm",
            "the client's name in events",
            vec![copy(1, 10), add(1, -16), set(2, 16), call(16)],
        ),
        ("bpf_get_current_cgroup_id", "the client's pod in events", vec![call(80)]),
        ("bpf_ktime_get_coarse_ns", "the time of events", vec![call(160)]),
    ]
}

fn load(mut code: Vec<u64>) -> std::io::Result<OwnedFd> {
    code.extend([set(0, 1), EXIT]);
    sys::program_load(CGROUP_SOCK_ADDR, CONNECT4, &code)
}

/// Asks the kernel for everything that the programs need. Needs the rights to load programs.
pub fn features() -> Vec<Feature> {
    let program = Feature {
        name: "cgroup/connect4",
        purpose: "services where connections begin",
        problem: load(Vec::new()).err().map(|error| error.to_string()),
    };
    let helpers = helpers().into_iter().map(|(name, purpose, code)| Feature {
        name,
        purpose,
        problem: load(code).err().map(|error| error.to_string()),
    });
    std::iter::once(program).chain(helpers).collect()
}
