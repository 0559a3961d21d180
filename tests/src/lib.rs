//! Kernel, process and scenario tests, and what they share.
//!
//! ```text
//! scenario   the format of `scenarios/*.yaml`, and how one is played on a world
//! feed       how an agent hears of objects: as the text says, or from an API server
//! world      where it is played: tables in memory, or programs in the kernel and real sockets
//! machine    a machine of one's own: cgroup, bpffs, network namespace, programs in force
//! random     numbers that a seed repeats
//! socket     sockets of all kinds, used as applications use them
//! chart      the Helm chart, rendered by Helm
//! dns        name servers, and clients that ask them
//! control    from objects to tables, as the agent does it
//! process    the built program, run as operators run it
//! terminal   a terminal that a test reads and types on
//! soak       everything at once for a long time, and whether anything is left of it
//! ```

pub mod chart;
pub mod control;
pub mod dns;
pub mod feed;
pub mod machine;
pub mod picture;
pub mod process;
pub mod promql;
pub mod random;
pub mod scenario;
pub mod soak;
pub mod socket;
pub mod terminal;
pub mod world;
