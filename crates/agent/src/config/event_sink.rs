//! Where the event log is written.

use std::path::PathBuf;

/// One place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventSink {
    /// Standard output.
    Stdout,
    /// A file, which is rotated.
    File(PathBuf),
    /// A unix stream socket: whoever connects gets each new line.
    Socket(PathBuf),
}

impl std::fmt::Display for EventSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Socket(path) => write!(f, "socket:{}", path.display()),
        }
    }
}

impl std::str::FromStr for EventSink {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "stdout" => Ok(Self::Stdout),
            Some(("file", path)) if !path.is_empty() && !path.ends_with('/') => Ok(Self::File(path.into())),
            Some(("socket", path)) if !path.is_empty() => Ok(Self::Socket(path.into())),
            _ => Err("give stdout, file:PATH or socket:PATH".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinks_survive_text() {
        for text in ["stdout", "file:/var/log/balancing/events.log", "socket:/run/balancing/events.sock"] {
            assert_eq!(text.parse::<EventSink>().unwrap().to_string(), text);
        }
        for text in ["", "stderr", "stdout:", "file:", "file:/var/log/", "/var/log/events.log", "socket:"] {
            text.parse::<EventSink>().unwrap_err();
        }
    }
}
