//! A notice as an Event of events.k8s.io/v1 (kubernetes 1.36 staging/src/k8s.io/api/events/v1/types.go; what it must say:
//! pkg/apis/core/validation/events.go).

use jiff::Timestamp;
use model::Kind;
use serde_json::{Value, json};

use super::{
    hash::fnv64,
    notice::{Notice, Scope, Severity},
};

/// Who says so, for all agents.
pub(super) const AGENT: &str = "balancing.elf.io/agent";
/// The same for controllers.
pub(super) const CONTROLLER: &str = "balancing.elf.io/controller";
/// What was being done.
const ACTION: &str = "Balance";
/// Bytes of a note.
pub(super) const LONGEST_NOTE: usize = 1024;
/// Bytes of the name of who says so.
const LONGEST_INSTANCE: usize = 128;
/// Bytes of an object's name in that of an Event, which is 253 with the hash.
const LONGEST_NAME: usize = 200;

/// Which Event: the same notice always gives the same one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct EventName {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl EventName {
    /// That of a notice as `node` tells it. What all tell alike has one name for all of them, so that it is told once.
    pub(super) fn of(notice: &Notice, node: &str) -> Self {
        let name = &notice.regarding.object.name;
        let uid = match notice.regarding.uid.as_str() {
            "" => notice.regarding.object.to_string(),
            uid => uid.to_owned(),
        };
        let node = if notice.scope == Scope::Node { node } else { "" };
        let hash = fnv64(&[&uid, notice.reason, &notice.note, node]);
        let object: String = name.name.chars().take(LONGEST_NAME).filter(|c| is_of_name(*c)).collect();
        let object = match object.trim_matches(['.', '-']) {
            "" => "object",
            object => object,
        };
        Self { namespace: namespace(&name.namespace).to_owned(), name: format!("{object}.{hash:016x}") }
    }

    /// Where it is, below the API server's URL.
    pub(super) fn collection(&self) -> String {
        format!("/apis/events.k8s.io/v1/namespaces/{}/events", self.namespace)
    }
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.')
}

/// What has no namespace is told of in this one.
fn namespace(of: &str) -> &str {
    if of.is_empty() { "default" } else { of }
}

/// The Event that is created.
pub(super) fn event(
    name: &EventName,
    notice: &Notice,
    reporter: &str,
    instance: &str,
    time: Timestamp,
) -> Value {
    let object = &notice.regarding.object;
    let mut regarding = json!({"apiVersion": api_version(object.kind), "kind": object.kind.to_string(), "name": object.name.name});
    if !object.name.namespace.is_empty() {
        regarding["namespace"] = (*object.name.namespace).into();
    }
    if !notice.regarding.uid.is_empty() {
        regarding["uid"] = notice.regarding.uid.as_str().into();
    }
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name.name, "namespace": name.namespace},
        "eventTime": micros(time),
        "type": match notice.severity { Severity::Warning => "Warning", Severity::Normal => "Normal" },
        "reason": notice.reason,
        "action": ACTION,
        "note": notice.note,
        "regarding": regarding,
        "reportingController": reporter,
        "reportingInstance": cut(instance, LONGEST_INSTANCE),
    })
}

/// What is changed in an Event that was told `count` times now.
pub(super) fn series(count: u64, time: Timestamp) -> Value {
    json!({"series": {"count": count.min(i32::MAX as u64), "lastObservedTime": micros(time)}})
}

/// How often an Event was told that is there.
pub(super) fn count(event: &Value) -> u64 {
    event["series"]["count"].as_u64().unwrap_or(1)
}

/// MicroTime.
fn micros(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

fn api_version(kind: Kind) -> &'static str {
    match kind {
        Kind::Service | Kind::Node | Kind::Pod | Kind::Namespace => "v1",
        Kind::EndpointSlice => "discovery.k8s.io/v1",
        Kind::ServiceCidr => "networking.k8s.io/v1",
        Kind::LocalRedirectPolicy | Kind::BalancingPolicy => "balancing.elf.io/v1beta1",
    }
}

/// The first `most` bytes, or a little less, of a text that says that there was more.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(most - '…'.len_utf8())])
}

#[cfg(test)]
mod tests {
    use model::{ObjectId, ObjectName};

    use super::*;
    use crate::publish::notice::Regarding;

    fn notice(scope: Scope) -> Notice {
        Notice {
            regarding: Regarding::service(&ObjectName::new("shop", "web"), "u1"),
            reason: "NotUnderstood",
            note: "spec.ports[0].port: 70000".into(),
            severity: Severity::Warning,
            scope,
        }
    }

    #[test]
    fn all_agents_give_one_name_to_what_they_see_alike() {
        let all = notice(Scope::Cluster);
        assert_eq!(EventName::of(&all, "n1"), EventName::of(&all, "n2"));
        let own = notice(Scope::Node);
        assert_ne!(EventName::of(&own, "n1"), EventName::of(&own, "n2"));
        assert_eq!(EventName::of(&own, "n1"), EventName::of(&own, "n1"));
        let names = [
            all.clone(),
            Notice { reason: "Other", ..all.clone() },
            Notice { note: "other".into(), ..all.clone() },
            Notice { regarding: Regarding { uid: "u2".into(), ..all.regarding.clone() }, ..all.clone() },
            Notice { regarding: Regarding { uid: String::new(), ..all.regarding.clone() }, ..all },
            own,
        ]
        .map(|notice| EventName::of(&notice, "n1").name);
        let different: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(different.len(), names.len(), "{names:?}");
    }

    #[test]
    fn names_are_valid_whatever_the_object_is_called() {
        for object in ["web", "a.b", "-x-", "", "Ä", &"n".repeat(253), &format!("{}.b", "a".repeat(199))] {
            let mut notice = notice(Scope::Cluster);
            notice.regarding.object = ObjectId { kind: Kind::Node, name: ObjectName::new("", object) };
            let name = EventName::of(&notice, "n1");
            assert_eq!(name.namespace, "default");
            assert!(name.name.len() <= 253, "{name:?}");
            for part in name.name.split('.') {
                let ends = part.starts_with('-') || part.ends_with('-');
                assert!(!part.is_empty() && !ends && part.chars().all(is_of_name), "{name:?}");
            }
        }
    }

    #[test]
    fn an_event_says_all_that_a_server_wants() {
        let mut notice = notice(Scope::Node);
        notice.note = cut(&"ä".repeat(600), LONGEST_NOTE);
        let name = EventName::of(&notice, "n1");
        let event = event(&name, &notice, AGENT, &"n".repeat(200), Timestamp::UNIX_EPOCH);
        assert_eq!(event["eventTime"], "1970-01-01T00:00:00.000000Z");
        assert_eq!(event["metadata"]["namespace"], "shop");
        assert_eq!(
            event["regarding"],
            json!({"apiVersion": "v1", "kind": "Service", "namespace": "shop", "name": "web", "uid": "u1"})
        );
        assert_eq!((&event["reportingController"], &event["type"]), (&json!(AGENT), &json!("Warning")));
        let note = event["note"].as_str().unwrap();
        assert!(note.len() <= LONGEST_NOTE && note.ends_with("ä…"), "{}", note.len());
        assert_eq!(event["reportingInstance"].as_str().unwrap().len(), LONGEST_INSTANCE);
        assert_eq!(series(3, Timestamp::UNIX_EPOCH)["series"]["count"], 3);
        assert_eq!((count(&event), count(&series(3, Timestamp::UNIX_EPOCH))), (1, 3));
    }
}
