//! Something that goes wrong again and again, and is said once.

use std::fmt::Display;

/// What is wrong with one thing now.
#[derive(Debug)]
pub(crate) struct Complaint {
    about: String,
    said: Option<String>,
}

impl Complaint {
    /// About something that nothing is wrong with yet.
    pub(crate) fn about(what: impl Display) -> Self {
        Self { about: what.to_string(), said: None }
    }

    /// This is wrong: logged unless it was wrong before.
    pub(crate) fn wrong(&mut self, error: String) {
        if self.said.as_ref() != Some(&error) {
            tracing::warn!("{}: {error}; it is tried again", self.about);
            self.said = Some(error);
        }
    }

    /// All is well.
    pub(crate) fn right(&mut self) {
        if self.said.take().is_some() {
            tracing::info!("{}: all is well again", self.about);
        }
    }
}
