//! What the kernel's programs and user space agree on: map keys and values, event records, verdicts and
//! reasons.
//!
//! Plain data only: `repr(C)`, explicit padding, no enum, bool or Option in a map. Ports (`*_be`) and
//! addresses are in network byte order, everything else in the machine's.
//!
//! Each map has a layout version of its own ([`layout`]): a new agent adopts the pinned maps whose layout it
//! knows, and builds anew, or copies, the others.
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics), allow(internal_features))]

pub mod address;
pub mod cgroup;
pub mod client;
pub mod event;
pub mod feature;
pub mod frontend;
pub mod layout;
pub mod lines;
pub mod name;
pub mod policy;
pub mod reason;
pub mod settings;
pub mod slot;
pub mod space;
pub mod usage;
pub mod word;

pub use address::{Address, Endpoint};
pub use client::{Affinity, Client};
pub use event::Event;
pub use frontend::{Backend, Key, Range, Record};
pub use name::Name;
pub use policy::{Limit, Policy};
pub use reason::{Hook, Reason, Verdict};
pub use settings::Settings;
pub use slot::{Pair, Pairs, Slot};
pub use space::Space;
pub use word::Word;

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
