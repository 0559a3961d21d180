//! The one error of this crate.

use thiserror::Error;

/// An object that can't be used, and what to do about it. Prints as one line.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{object}: {field}: {problem}")]
pub struct Invalid {
    /// Kind and name, as far as they are known: `Service default/web`.
    pub object: String,
    /// Path of the field: `spec.ports[0].port`.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}
