//! Decoding and naming of events; metrics; the log set-up.
#![forbid(unsafe_code)]

pub mod destroyed;
pub mod event;
pub mod log;
pub mod metrics;
pub mod pause;
pub mod refused;
pub mod schema;
pub mod suppressed;
pub mod usage;

pub use destroyed::Destroyed;
pub use event::{Clock, Line, Lost, Names};
pub use metrics::Metrics;
pub use pause::Pause;
pub use refused::Refused;
pub use suppressed::Suppressed;
pub use usage::Usage;
