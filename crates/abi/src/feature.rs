//! What a kernel may lack and the programs can do without: the agent probes, and tells them when it loads them.

/// `bpf_set_retval` (kernel 5.18): without it, refused calls fail with EPERM.
pub const SET_RETVAL: u32 = 1;
/// `bpf_get_current_pid_tgid` in these hooks (kernel 6.10).
pub const PID: u32 = 2;
/// `bpf_get_current_comm` in these hooks.
pub const COMM: u32 = 4;
/// `bpf_get_current_uid_gid` in these hooks.
pub const UID: u32 = 8;
/// `bpf_get_current_cgroup_id` in these hooks.
pub const CGROUP: u32 = 16;
/// `bpf_get_current_ancestor_cgroup_id` in these hooks: without it no cgroup can be excluded.
pub const ANCESTOR: u32 = 32;
