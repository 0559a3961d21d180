//! The agent's own log: lines on standard error, the last of which are remembered.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
};

use tracing_subscriber::{
    EnvFilter,
    fmt::{MakeWriter, layer},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// Lines that are remembered, and how long each may be.
const LINES: usize = 1000;
const LENGTH: usize = 2048;

/// Starts logging to standard error, at level `info` unless `BALANCING_LOG` says otherwise (syntax of
/// `tracing_subscriber::EnvFilter`). The last lines are remembered too.
pub fn start() -> Memory {
    let filter = EnvFilter::try_from_env("BALANCING_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let memory = Memory::default();
    // A full disk or a reader that is gone is no reason to end: what can't be logged is lost. (Told of it, the
    // subscriber would write to the same standard error, and panic.)
    let shown = layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .log_internal_errors(false);
    let remembered =
        layer().with_writer(memory.clone()).with_ansi(false).with_target(false).log_internal_errors(false);
    tracing_subscriber::registry().with(filter).with(remembered).with(shown).init();
    memory
}

/// The last lines of the log, for who asks later.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<VecDeque<String>>>);

impl Memory {
    /// Them, the oldest first.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl Write for Memory {
    /// A line is written in one go.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let cut = line.get(..LENGTH).unwrap_or(line);
        let mut text = String::from_utf8_lossy(cut).trim_end().to_owned();
        if cut.len() < line.len() {
            text.push_str(" ...");
        }
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(text);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Memory {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded() {
        let mut memory = Memory::default();
        for number in 0..LINES + 5 {
            memory.write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
        let lines = memory.lines();
        assert_eq!(lines.len(), LINES);
        assert_eq!((lines[0].as_str(), lines[LINES - 1].as_str()), ("line 5", "line 1004"));
        memory.write_all(&vec![b'x'; 10 * LENGTH]).unwrap();
        assert_eq!(memory.lines()[LINES - 1].len(), LENGTH + 4);
    }
}
