//! Patches that are no server-side apply: JSON patch, merge patch, strategic merge patch.

use serde_json::{Map, Value};

use crate::{
    fields::{Lists, Path, Step, lists, step},
    kind::Kind,
    status::{Answer, Status},
};

/// The form of a patch, from the content type of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl Form {
    pub(crate) fn of(content_type: &str, kind: &Kind) -> Answer<Self> {
        let accepted =
            "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" if !kind.custom => Ok(Self::Strategic),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            _ => Err(Status::unsupported_media(accepted)),
        }
    }
}

/// `object` after `patch`, which is no apply.
pub(crate) fn patched(mut object: Value, patch: Value, form: Form) -> Answer<Value> {
    match form {
        Form::Json => {
            let patch: json_patch::Patch = serde_json::from_value(patch)
                .map_err(|error| Status::bad_request(format!("cannot read the JSON patch: {error}")))?;
            json_patch::patch(&mut object, &patch).map_err(|error| {
                Status::new(
                    hyper::StatusCode::UNPROCESSABLE_ENTITY,
                    "Invalid",
                    format!("the server rejected our request due to an error in our request: {error}"),
                )
            })?;
        }
        Form::Merge => json_patch::merge(&mut object, &patch),
        Form::Strategic | Form::Apply => strategic(&mut object, &patch, &mut Vec::new()),
    }
    Ok(object)
}

/// As a merge patch, but lists that have keys are merged item by item, and `$patch: delete` takes one out.
fn strategic(object: &mut Value, patch: &Value, path: &mut Path) {
    match (&mut *object, patch) {
        (Value::Object(object), Value::Object(patch)) => strategic_maps(object, patch, path),
        (Value::Array(list), Value::Array(patch)) if lists(path) != Lists::Atomic => {
            let rule = lists(path);
            for item in patch {
                let id = step(rule, item);
                let found = list.iter().position(|live| step(rule, live) == id);
                match found {
                    Some(at) if item["$patch"] == "delete" => {
                        list.remove(at);
                    }
                    Some(at) => {
                        path.push(id);
                        strategic(&mut list[at], item, path);
                        path.pop();
                    }
                    None if item["$patch"] == "delete" => {}
                    None => list.push(item.clone()),
                }
            }
        }
        (live, patch) => {
            *live = match patch {
                // Nulls mean removal even where there is nothing to remove from.
                Value::Object(patch) => {
                    let mut fresh = Map::new();
                    strategic_maps(&mut fresh, patch, path);
                    Value::Object(fresh)
                }
                other => other.clone(),
            }
        }
    }
}

fn strategic_maps(object: &mut Map<String, Value>, patch: &Map<String, Value>, path: &mut Path) {
    for (name, value) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
        if value.is_null() {
            object.remove(name);
            continue;
        }
        path.push(Step::Field(name.clone()));
        strategic(object.entry(name.clone()).or_insert(Value::Null), value, path);
        path.pop();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_three_forms() {
        let object = || json!({"metadata": {"annotations": {"a": "1"}}, "spec": {"ports": [{"port": 1, "name": "x"}]}});
        let patch = json!([{"op": "add", "path": "/metadata/annotations/b", "value": "2"}]);
        let after = patched(object(), patch, Form::Json).unwrap();
        assert_eq!(after["metadata"]["annotations"], json!({"a": "1", "b": "2"}));

        let patch = json!({"metadata": {"annotations": {"a": null}}, "spec": {"ports": [{"port": 2}]}});
        let merged = patched(object(), patch.clone(), Form::Merge).unwrap();
        assert_eq!(merged, json!({"metadata": {"annotations": {}}, "spec": {"ports": [{"port": 2}]}}));
        let merged = patched(object(), patch, Form::Strategic).unwrap();
        assert_eq!(merged["spec"]["ports"], json!([{"port": 1, "name": "x"}, {"port": 2}]));

        let failed = patched(object(), json!([{"op": "remove", "path": "/nothing"}]), Form::Json);
        assert_eq!(failed.unwrap_err().code, 422);
    }
}
