//! The kernel's side of the machine: loading, pinning, attaching and replacing programs; reading and writing
//! maps in batches; the ring buffer; feature probes.
//!
//! Everything that outlives the agent is pinned below one bpffs directory ([`pins`]):
//!
//! ```text
//! /sys/fs/bpf/balancing/maps/NAME_vLAYOUT  the maps, each with its own layout version
//! /sys/fs/bpf/balancing/links/HOOK         the attachments
//! ```

pub mod attach;
mod btf;
pub mod carry;
pub mod cgroups;
pub mod clients;
mod code;
pub mod connections;
pub mod error;
pub mod events;
mod frontends;
pub mod grow;
pub mod live;
pub mod load;
mod mapping;
pub mod maps;
mod object;
pub mod pins;
pub mod policies;
pub mod probe;
pub mod recover;
pub mod store;
mod sys;
pub mod usage;
#[cfg(feature = "yardstick")]
pub mod yardstick;

pub use attach::{Attached, HOOKS, Installed, Stranger, attached, clean, install, is_shared, strangers};
pub use cgroups::watches_cgroups;
pub use connections::{Connection, Slots};
pub use error::Error;
pub use events::Events;
pub use grow::grow;
pub use live::LiveTables;
pub use load::{Loaded, Sizes};
pub use maps::{Counted, Maps};
pub use pins::Pins;
pub use store::{Contents, TableStore};

/// How long a program that runs now may still run, where the kernel can't tell.
const READERS: std::time::Duration = std::time::Duration::from_secs(1);

/// Waits until no program that runs now is still running (an RCU grace period): what was unreachable before
/// can be used again after. Where the kernel has no way to tell (nohz_full, a single CPU), by the clock.
pub fn wait_for_readers() {
    if !sys::synchronize_rcu() {
        std::thread::sleep(READERS);
    }
}
