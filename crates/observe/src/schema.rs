//! The JSON Schema of the event log's lines: docs/events.schema.json.

use schemars::{Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::Value;

use crate::event::Line;

/// The schema of a line as it is written (draft 2020-12).
pub fn schema() -> Value {
    let mut schema =
        SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<Line>();
    schema.insert("title".into(), "Line of balancing's event log".into());
    schema.to_value()
}

/// An address of either family, in formats that validators know: the derived one is `ip`.
pub(crate) fn ip(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]})
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::event::{Client, Clock, Decision, Lost, Names, SCHEMA, Who};

    fn validator() -> jsonschema::Validator {
        jsonschema::options().should_validate_formats(true).build(&schema()).unwrap()
    }

    fn decision() -> Decision {
        let names = Names {
            node: "n1",
            clock: Clock { monotonic: 0, world: Timestamp::UNIX_EPOCH },
            service: None,
            cgroup: None,
            who: Who { pod: Some("web-1".into()), ..Who::default() },
            backend: (None, None),
        };
        Decision::new(&abi::Event::default(), &names)
    }

    #[test]
    fn docs_have_the_schema() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/events.schema.json");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, format!("{:#}\n", schema())).unwrap();
        }
        let written: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(
            written,
            schema(),
            "`UPDATE_DOCS=1 cargo test -p balancing-observe schema` writes it anew"
        );
    }

    /// Every field is documented, by its name.
    #[test]
    fn docs_tell_of_every_field() {
        let text = include_str!("../../../docs/events.md");
        let schema = schema();
        let kinds = schema["$defs"].as_object().unwrap();
        for (kind, definition) in kinds {
            for field in definition["properties"].as_object().into_iter().flat_map(|fields| fields.keys()) {
                let name = if kind == "Client" { format!("`client.{field}`") } else { format!("`{field}`") };
                assert!(text.contains(&name), "docs/events.md does not tell of {name} of {kind}");
            }
        }
        assert!(kinds.contains_key("Client") && kinds.contains_key("Suppressed"), "{kinds:?}");
    }

    #[test]
    fn lines_of_each_kind_are_valid() {
        let validator = validator();
        let mut whole = decision();
        whole.backend = Some(crate::event::Backend {
            ip: "fd00::1".parse().unwrap(),
            port: 80,
            namespace: Some("shop".into()),
            pod: Some("cart-1".into()),
            node: None,
        });
        let service =
            crate::event::Service { namespace: "shop".into(), name: "cart".into(), port: String::new() };
        whole.service = Some(service.clone());
        whole.policy = Some(crate::event::Policy { kind: "BalancingPolicy".into(), name: "dns".into() });
        whole.client = Client { pid: Some(1), comm: Some("curl".into()), cgroup_id: Some(7), ..whole.client };
        let address = || crate::event::Address { ip: "10.0.0.1".parse().unwrap(), port: 53 };
        let (time, node) = (Timestamp::UNIX_EPOCH, String::from("n1"));
        let lines = [
            Line::Decision(Box::new(decision())),
            Line::Decision(Box::new(whole)),
            Line::Lost(Lost { schema: SCHEMA, time, node: node.clone(), lost: u64::MAX, at: "ring".into() }),
            Line::Suppressed(crate::Suppressed {
                schema: SCHEMA,
                time,
                node: node.clone(),
                suppressed: 1,
                reason: "no-endpoints".into(),
                seconds: 0.5,
            }),
            Line::Destroyed(Box::new(crate::Destroyed {
                schema: SCHEMA,
                time,
                node: node.clone(),
                destroyed: crate::Destroyed::BACKEND_GONE.into(),
                protocol: "UDP".into(),
                cookie: 1,
                netns: None,
                local: address(),
                original: address(),
                backend: address(),
                service: Some(service),
            })),
            Line::Refused(crate::Refused::new("n1", "16 read already")),
            Line::Pause(crate::Pause { schema: SCHEMA, time, node, paused: true, since: time }),
        ];
        for line in lines {
            let value = serde_json::to_value(&line).unwrap();
            let errors: Vec<String> = validator.iter_errors(&value).map(|it| it.to_string()).collect();
            assert_eq!(errors, Vec::<String>::new(), "{value}");
        }
    }

    /// A schema that takes everything would be none.
    #[test]
    fn what_is_no_line_is_not_valid() {
        let validator = validator();
        let right = serde_json::to_value(Line::Decision(Box::new(decision()))).unwrap();
        for (place, wrong) in [
            ("/time", json!("yesterday")),
            ("/client", json!(null)),
            ("/client/pid", json!("1")),
            ("/client/pod", json!(7)),
            ("/original/port", json!(65536)),
            ("/original/ip", json!("10.0.0.256")),
            ("/flags", json!("affinity")),
        ] {
            let mut line = right.clone();
            *line.pointer_mut(place).unwrap() = wrong;
            assert!(!validator.is_valid(&line), "{place}: {line}");
        }
        for field in right.as_object().unwrap().keys() {
            let mut line = right.clone();
            line.as_object_mut().unwrap().remove(field);
            assert!(!validator.is_valid(&line), "without {field}: {line}");
        }
    }
}
