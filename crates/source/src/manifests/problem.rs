//! What is wrong with a file, and where.

use std::{fmt, path::PathBuf};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something is not in force that should be.
    Error,
    /// Something is valid but has no effect here.
    Notice,
}

/// Something to tell the operator. Prints as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The file, or the directory itself.
    pub file: PathBuf,
    /// The line in it, counted from 1: of the mistake if it is one of syntax, else of the document.
    pub line: Option<u64>,
    /// Kind and name of the object, where it is about one.
    pub object: Option<String>,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(object) = &self.object {
            write!(f, ": {object}")?;
        }
        write!(f, ": {}", self.reason)
    }
}
