//! The line of the event log that stands for decisions which were too many to be told of one by one.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Decisions of one reason that are not in the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Suppressed {
    /// Version of the schema.
    pub schema: u32,
    /// When it was written.
    pub time: Timestamp,
    /// On which node.
    pub node: String,
    /// How many, exactly.
    pub suppressed: u64,
    /// Their reason.
    pub reason: String,
    /// In how many seconds before `time` they were made; never 0.
    pub seconds: f64,
}

#[cfg(test)]
mod tests {
    use crate::event::Line;

    #[test]
    fn a_line_can_be_told_from_the_others() {
        let text = r#"{"schema":1,"time":"2026-11-22T10:00:00Z","node":"n1","suppressed":4711,"reason":"no-endpoints","seconds":0.981}"#;
        let line: Line = serde_json::from_str(text).unwrap();
        assert!(matches!(&line, Line::Suppressed(line) if line.suppressed == 4711));
        assert_eq!(serde_json::to_string(&line).unwrap(), text);
    }
}
