//! The line of the event log about `balancing pause`.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// All connections pass untranslated from here on, or do so no longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pause {
    /// Version of the schema.
    pub schema: u32,
    /// When the agent saw it.
    pub time: Timestamp,
    /// On which node.
    pub node: String,
    /// `balancing pause` is in force; false: it was, until now.
    pub paused: bool,
    /// Since when, as this agent has seen it.
    pub since: Timestamp,
}

#[cfg(test)]
mod tests {
    use crate::event::Line;

    #[test]
    fn a_line_can_be_told_from_the_others() {
        let text = r#"{"schema":1,"time":"2026-11-22T10:01:00Z","node":"n1","paused":true,"since":"2026-11-22T10:00:00Z"}"#;
        let line: Line = serde_json::from_str(text).unwrap();
        assert!(matches!(&line, Line::Pause(line) if line.paused));
        assert_eq!(serde_json::to_string(&line).unwrap(), text);
    }
}
