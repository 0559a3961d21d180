//! The line of the event log about a socket whose connection was ended under its owner.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::{Address, Service};

/// A socket that was connected through a service to a backend that is no longer usable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Destroyed {
    /// Version of the schema.
    pub schema: u32,
    /// When.
    pub time: Timestamp,
    /// On which node.
    pub node: String,
    /// Why: [`Destroyed::BACKEND_GONE`].
    pub destroyed: String,
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// The kernel's cookie of the socket.
    pub cookie: u64,
    /// Cookie of its network namespace, where the kernel has such.
    #[serde(rename = "netnsCookie")]
    pub netns: Option<u64>,
    /// Its own address.
    pub local: Address,
    /// What the application had asked for.
    pub original: Address,
    /// Where it was connected to.
    pub backend: Address,
    /// The service that it had asked for; null once that is gone.
    pub service: Option<Service>,
}

impl Destroyed {
    /// The backend is no longer usable.
    pub const BACKEND_GONE: &'static str = "backend-gone";
}

#[cfg(test)]
mod tests {
    use crate::event::Line;

    #[test]
    fn a_line_can_be_told_from_the_others() {
        let text = r#"{"schema":1,"time":"2026-11-22T10:00:00Z","node":"n1","destroyed":"backend-gone","protocol":"UDP","cookie":4711,"netnsCookie":3,"local":{"ip":"10.2.0.9","port":40000},"original":{"ip":"10.96.0.1","port":53},"backend":{"ip":"10.1.0.7","port":5353},"service":{"namespace":"shop","name":"dns","port":""}}"#;
        let line: Line = serde_json::from_str(text).unwrap();
        assert!(matches!(&line, Line::Destroyed(line) if line.cookie == 4711));
        assert_eq!(serde_json::to_string(&line).unwrap(), text);
    }
}
