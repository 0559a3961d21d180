//! Objects as a server sends them, for who needs more of them than decisions do.

use model::ObjectId;

/// An object as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsSent {
    /// Which one.
    pub object: ObjectId,
    /// As of this `metadata.resourceVersion`.
    pub version: Box<str>,
    /// JSON; `None`: it is gone.
    pub text: Option<Box<str>>,
}
