//! What is left out without being an error.

use std::fmt;

/// Something in a document that is valid, but has no effect here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Notice {
    /// An object of a kind that nothing here reads.
    IgnoredKind {
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
        /// Its `metadata.name`, empty where unset.
        name: String,
    },
    /// A part of an object, or all of it, that is not used.
    Skipped {
        /// Kind and name.
        object: String,
        /// Path of the field.
        field: String,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IgnoredKind { api_version, kind, name } => {
                write!(f, "{kind} {name}: {api_version} {kind} is not read by Balancing; ignored")
            }
            Self::Skipped { object, field, reason } => write!(f, "{object}: {field}: {reason}"),
        }
    }
}
