//! The line that somebody gets who can't be served.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::SCHEMA;

/// The only line, and why there are no others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refused {
    /// Version of the schema.
    pub schema: u32,
    /// When.
    pub time: Timestamp,
    /// On which node.
    pub node: String,
    /// Why, and what to do.
    pub refused: String,
}

impl Refused {
    /// Now.
    pub fn new(node: &str, why: &str) -> Self {
        Self { schema: SCHEMA, time: Timestamp::now(), node: node.into(), refused: why.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Line;

    #[test]
    fn a_line_can_be_told_from_the_others() {
        let line = Line::Refused(Refused::new("n1", "16 read already"));
        let text = serde_json::to_string(&line).unwrap();
        assert!(text.contains(r#""refused":"16 read already""#), "{text}");
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
    }
}
