//! Layout versions: part of a map's pin name, one for each map.
//!
//! A change of a map's key or value is a new number here. A test compares a fingerprint of the layouts with
//! these numbers, so that a change without one fails.

/// Version of this crate's contract as a whole, shown by `status`.
pub const ABI_VERSION: u32 = 1;

/// `frontends4`, `frontends6`, `records`, `lists`, `backends`, `names`: they refer to one another and change
/// together.
pub const TABLES: u32 = 1;

/// `slots`. A later layout may only append words: sockets outlive agents, and their words are copied.
pub const SLOTS: u32 = if cfg!(feature = "next-layout") { 2 } else { 1 };

/// `pairs`.
pub const PAIRS: u32 = 1;

/// `settings`.
pub const SETTINGS: u32 = 1;

/// `counters`.
pub const COUNTERS: u32 = 1;

/// `events`.
pub const EVENTS: u32 = 1;
