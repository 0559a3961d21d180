//! Is a value of the form that a schema asks for? As far as our schemas go: kube's CEL looks at rules only.

use serde_json::{Map, Value};

/// What a comparison has found, each with its field.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What an API server would refuse, and what would be right.
    pub(super) wrong: Vec<(String, String)>,
    /// Fields that are not in the schema.
    pub(super) unknown: Vec<String>,
}

impl Found {
    fn wrong(&mut self, field: &str, problem: impl Into<String>) {
        self.wrong.push((field.to_owned(), problem.into()));
    }
}

/// A value as rules see it on API servers: a field that is null is not there.
pub(super) fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, value)| !value.is_null());
            kept.map(|(name, value)| (name.clone(), without_nulls(value))).collect::<Map<_, _>>().into()
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

/// Compares what is at `field`.
pub(super) fn compare(schema: &Value, value: &Value, field: &str, found: &mut Found) {
    match (schema["type"].as_str(), value) {
        (Some("object"), Value::Object(fields)) => object(schema, fields, field, found),
        (Some("array"), Value::Array(items)) => {
            let count = items.len() as f64;
            limit(schema, ["minItems", "maxItems"], count, " items are", field, found);
            for (index, item) in items.iter().enumerate() {
                compare(&schema["items"], item, &format!("{field}[{index}]"), found);
            }
        }
        (Some("string"), Value::String(text)) => string(schema, text, field, found),
        (Some("integer"), Value::Number(number)) if number.is_i64() || number.is_u64() => {
            let number = number.as_f64().unwrap_or_default();
            limit(schema, ["minimum", "maximum"], number, " is", field, found);
        }
        (Some("boolean"), Value::Bool(_)) => {}
        (Some("string"), Value::Number(number)) => {
            found.wrong(field, format!("{number} is a number and must be a string: \"{number}\""));
        }
        (Some(kind), _) => found.wrong(field, format!("{value} must be of type {kind}")),
        (None, _) => {}
    }
}

fn object(schema: &Value, fields: &Map<String, Value>, field: &str, found: &mut Found) {
    let known = schema["properties"].as_object();
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if fields.get(required).is_none_or(Value::is_null) {
            found.wrong(&format!("{field}.{required}"), "is missing");
        }
    }
    for (name, value) in fields {
        let at = format!("{field}.{name}");
        match known.and_then(|known| known.get(name)).or_else(|| schema.get("additionalProperties")) {
            // As if it were not there, which has been looked at.
            Some(_) if value.is_null() => {}
            Some(schema) => compare(schema, value, &at, found),
            None => found.unknown.push(at),
        }
    }
}

fn string(schema: &Value, text: &str, field: &str, found: &mut Found) {
    let words = schema["enum"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !words.is_empty() && !words.iter().any(|word| word == text) {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        found.wrong(field, format!("{text:?} is not known; use {}", words.join(" or ")));
    }
    let length = text.chars().count() as f64;
    limit(schema, ["minLength", "maxLength"], length, " characters are", field, found);
}

/// `[least, most]` are keywords of the schema.
fn limit(schema: &Value, [least, most]: [&str; 2], is: f64, what: &str, field: &str, found: &mut Found) {
    let (least, most) = (schema[least].as_f64().unwrap_or(0.0), schema[most].as_f64());
    if is < least || most.is_some_and(|most| is > most) {
        let allowed = most.map_or_else(|| format!("{least} or more"), |most| format!("{least} to {most}"));
        found.wrong(field, format!("{is}{what} not allowed; use {allowed}"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(schema: &Value, value: &Value) -> (Vec<String>, Vec<String>) {
        let mut found = Found::default();
        compare(schema, value, "x", &mut found);
        (
            found.wrong.into_iter().map(|(field, problem)| format!("{field}: {problem}")).collect(),
            found.unknown,
        )
    }

    #[test]
    fn each_field_is_compared_and_all_that_is_wrong_is_said() {
        let schema = json!({
            "type": "object", "required": ["a", "b"],
            "properties": {
                "a": {"type": "string", "enum": ["TCP", "UDP"]},
                "b": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "integer", "minimum": 1.0, "maximum": 100.0}},
                "c": {"type": "boolean", "nullable": true},
                "d": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 2}},
            },
        });
        assert_eq!(
            found(&schema, &json!({"a": "UDP", "b": [1, 100], "c": null, "d": {"x": "éé"}})),
            (vec![], vec![])
        );
        let value = json!({"a": "SCTP", "b": [0, 101, 1.5], "c": "yes", "d": {"x": "abc"}, "e": 1});
        let wrong = [
            r#"x.a: "SCTP" is not known; use TCP or UDP"#,
            "x.b: 3 items are not allowed; use 1 to 2",
            "x.b[0]: 0 is not allowed; use 1 to 100",
            "x.b[1]: 101 is not allowed; use 1 to 100",
            "x.b[2]: 1.5 must be of type integer",
            r#"x.c: "yes" must be of type boolean"#,
            "x.d.x: 3 characters are not allowed; use 0 to 2",
        ];
        assert_eq!(found(&schema, &value), (wrong.map(str::to_owned).to_vec(), vec!["x.e".to_owned()]));
        let (wrong, _) = found(&schema, &json!({"a": null, "b": []}));
        assert_eq!(wrong, ["x.a: is missing", "x.b: 0 items are not allowed; use 1 to 2"]);
        assert_eq!(found(&schema, &json!([])).0, ["x: [] must be of type object"]);
        let (wrong, _) = found(&schema, &json!({"a": 80, "b": [1]}));
        assert_eq!(wrong, [r#"x.a: 80 is a number and must be a string: "80""#]);
    }
}
