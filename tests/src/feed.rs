//! How a world's agent hears of objects.

mod api_server;
mod controller;

use anyhow::Result;
use model::Change;

pub use self::api_server::ApiServer;
use crate::scenario::{deletion, upserts};

/// Between what happens to objects and the agent that is to hear of it.
pub trait Feed {
    /// The objects of a file of manifests are there, or look different: what the agent is told.
    ///
    /// # Errors
    /// They are not well formed, or the agent is not told in time.
    fn apply(&mut self, manifests: &str) -> Result<Vec<Change>>;

    /// Objects are gone, by names as [`deletion`] has them: what the agent is told.
    ///
    /// # Errors
    /// These are no names, or the agent is not told in time.
    fn delete(&mut self, names: &[String]) -> Result<Vec<Change>>;

    /// Everything that there is has been told; what else the agent is told before it hears of that.
    ///
    /// # Errors
    /// The agent is not told in time.
    fn sync(&mut self) -> Result<Vec<Change>>;

    /// The agent starts anew, and has not synced; there are no objects any more.
    ///
    /// # Errors
    /// What there was can't be taken away.
    fn restart(&mut self) -> Result<()>;
}

/// The agent is told what the text says, and nobody is between them.
#[derive(Debug)]
pub struct Direct;

impl Feed for Direct {
    fn apply(&mut self, manifests: &str) -> Result<Vec<Change>> {
        upserts(manifests)
    }

    fn delete(&mut self, names: &[String]) -> Result<Vec<Change>> {
        names.iter().map(|name| deletion(name)).collect()
    }

    fn sync(&mut self) -> Result<Vec<Change>> {
        Ok(Vec::new())
    }

    fn restart(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
