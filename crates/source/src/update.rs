//! What a source gives.

use model::Change;

use crate::Problem;

/// What a source gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// What changed, in one batch; never empty.
    Changes(Vec<Change>),
    /// Everything that was there at the start and could be read has been sent. Sent once.
    Synced,
    /// What has not been sent is really not there: a source that has seen only a part at the start keeps this back, as a
    /// directory with a file that is broken, for nobody knows what it would say. Sent once, after `Synced`.
    Complete,
    /// All problems and notices there are now; sent when they change.
    Problems(Vec<Problem>),
}
