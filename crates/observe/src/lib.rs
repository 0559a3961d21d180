//! Decoding and naming of events; the log set-up.
#![forbid(unsafe_code)]

pub mod destroyed;
pub mod event;
pub mod log;

pub use destroyed::Destroyed;
pub use event::{Clock, Line, Lost, Names};
