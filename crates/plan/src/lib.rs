//! From the model to desired tables, and from desired tables to ordered batches of map writes.
//!
//! ```text
//! compile   one service or policy of the model -> ServiceTables: its frontends and backends, without ids
//! desired   all ServiceTables -> what each frontend should do; who keeps a contested one, and what is below it
//! table     mirror of the pinned maps, with ids, indexes, generations, free and quarantined room
//! diff      desired against table -> Plan: writes in an order that is safe to stop anywhere
//! ```
//!
//! Pure: no I/O, clock or randomness; the same inputs give the same plan.
#![forbid(unsafe_code)]

pub mod compile;
mod describe;
pub mod desired;
pub mod diff;
pub mod nodes;
pub mod phases;
pub mod refusal;
pub mod space;
pub mod table;

pub use compile::{FrontendSpec, PortTable, ServiceTables, compile, compile_policy};
pub use desired::{Conflict, Desired, Touched, policy_number};
pub use diff::{Deletes, diff};
pub use nodes::node_addresses;
pub use phases::{Phase, Plan};
pub use refusal::{Refusal, Subject};
pub use table::{Capacity, Difference, Grace, Image, Inconsistency, Reading, Room, Table, Usage, source_key};

#[cfg(test)]
mod tests;
