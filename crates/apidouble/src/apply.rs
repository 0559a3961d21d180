//! Server-side apply: each manager says what it wants, and the server knows who wanted what.

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use crate::{
    fields::{FieldSet, Lists, Path, Step, get, is_atomic_map, lists, remove, step},
    managed::{Manager, Owned, is_item, now, ownable, owners, set_owners},
    object::Fields,
    status::{Answer, Status},
};

/// `live` after `manager` has applied `wanted`. Fields of others that would change are a conflict, unless `force`
/// takes them over. What the manager applied before and now does not, and nobody else owns, is removed.
pub(crate) fn apply(live: Option<&Fields>, wanted: &Fields, manager: Manager, force: bool) -> Answer<Fields> {
    let empty = Fields::new();
    let live = live.unwrap_or(&empty);
    let mut owners = owners(live);
    let wanted_set = ownable(wanted);
    let before = match owners.iter().position(|owned| owned.manager == manager) {
        Some(at) => owners.remove(at).fields,
        None => FieldSet::default(),
    };

    let mut merged = live.clone();
    merge_maps(&mut merged, wanted, &mut Vec::new());
    let changes = |path: &Path| !is_item(path) && get(live, path) != get(&merged, path);
    let mut conflicts = Vec::new();
    for owned in &mut owners {
        let contested: Vec<Path> =
            owned.fields.0.intersection(&wanted_set.0).filter(|path| changes(path)).cloned().collect();
        for path in contested {
            if force {
                owned.fields.0.remove(&path);
            } else {
                conflicts.push((owned.manager.clone(), path));
            }
        }
    }
    if !conflicts.is_empty() {
        return Err(conflict(&conflicts));
    }

    // Backwards: what is inside before what it is in.
    for path in before.0.iter().rev().filter(|path| !wanted_set.0.contains(*path)) {
        let kept = wanted_set.touches(path) || owners.iter().any(|owned| owned.fields.touches(path));
        if !kept {
            remove(&mut merged, path);
        }
    }
    let unchanged = before == wanted_set;
    let all = ownable(&merged);
    for owned in &mut owners {
        owned.fields.retain(|path| all.touches(path) || get(&merged, path).is_some());
    }
    let time = match unchanged {
        true => previous_time(live, &manager).unwrap_or_else(now),
        false => now(),
    };
    owners.push(Owned { manager, time, fields: wanted_set });
    set_owners(&mut merged, &owners);
    Ok(merged)
}

fn previous_time(live: &Fields, manager: &Manager) -> Option<String> {
    owners(live).into_iter().find(|owned| owned.manager == *manager).map(|owned| owned.time)
}

fn merge_maps(live: &mut Map<String, Value>, wanted: &Map<String, Value>, path: &mut Path) {
    for (name, value) in wanted.iter().filter(|(_, value)| !value.is_null()) {
        path.push(Step::Field(name.clone()));
        merge(live.entry(name.clone()).or_insert(Value::Null), value, path);
        path.pop();
    }
}

fn merge(live: &mut Value, wanted: &Value, path: &mut Path) {
    match (&mut *live, wanted) {
        (Value::Object(live), Value::Object(wanted)) if !is_atomic_map(path) => {
            merge_maps(live, wanted, path);
        }
        (Value::Array(items), Value::Array(wanted)) if lists(path) != Lists::Atomic => {
            let rule = lists(path);
            for item in wanted {
                let id = step(rule, item);
                match items.iter_mut().find(|live| step(rule, live) == id) {
                    Some(live) => {
                        path.push(id);
                        if let (Value::Object(live), Value::Object(item)) = (live, item) {
                            merge_maps(live, item, path);
                        }
                        path.pop();
                    }
                    None => items.push(item.clone()),
                }
            }
        }
        _ => *live = wanted.clone(),
    }
}

fn conflict(conflicts: &[(Manager, Path)]) -> Status {
    let who = |manager: &Manager| {
        let subresource = manager.subresource.as_ref().map(|name| format!(" with subresource {name:?}"));
        let update = match manager.applies {
            true => String::new(),
            false => format!(" using {}", manager.api_version),
        };
        format!("{:?}{}{update}", manager.name, subresource.unwrap_or_default())
    };
    let mut message = match conflicts {
        [(manager, path)] => {
            format!("Apply failed with 1 conflict: conflict with {}: {}", who(manager), dotted(path))
        }
        _ => format!("Apply failed with {} conflicts:", conflicts.len()),
    };
    if conflicts.len() > 1 {
        let mut last = None;
        for (manager, path) in conflicts {
            if last != Some(manager) {
                message += &format!(" conflicts with {}:", who(manager));
                last = Some(manager);
            }
            message += &format!("\n- {}", dotted(path));
        }
    }
    let cause = |(manager, path): &(Manager, Path)| json!({"reason": "FieldManagerConflict", "message": format!("conflict with {}", who(manager)), "field": dotted(path)});
    let causes: Vec<Value> = conflicts.iter().map(cause).collect();
    Status::new(StatusCode::CONFLICT, "Conflict", message).with_details(json!({"causes": causes}))
}

/// `.spec.ports[port=80,protocol="TCP"].name`
fn dotted(path: &Path) -> String {
    path.iter()
        .map(|step| match step {
            Step::Field(name) => format!(".{name}"),
            Step::Element(value) => format!("[={value}]"),
            Step::Item(keys) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
                format!("[{}]", keys.join(","))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(name: &str) -> Manager {
        Manager { name: name.to_owned(), applies: true, subresource: None, api_version: "v1".to_owned() }
    }

    fn applied(live: Option<&Fields>, name: &str, wanted: Value, force: bool) -> Answer<Fields> {
        apply(live, wanted.as_object().unwrap(), manager(name), force)
    }

    fn without_managers(mut object: Fields) -> Value {
        set_owners(&mut object, &[]);
        if object["metadata"] == json!({}) {
            object.remove("metadata");
        }
        Value::Object(object)
    }

    #[test]
    fn two_managers_keep_apart() {
        let one = applied(None, "one", json!({"data": {"a": "1"}}), false).unwrap();
        let two = applied(Some(&one), "two", json!({"data": {"b": "2"}}), false).unwrap();
        assert_eq!(without_managers(two.clone()), json!({"data": {"a": "1", "b": "2"}}));
        let gone = applied(Some(&two), "one", json!({"metadata": {}}), false).unwrap();
        assert_eq!(without_managers(gone), json!({"data": {"b": "2"}}));
    }

    #[test]
    fn a_field_of_another_is_a_conflict_unless_forced_or_the_same() {
        let one = applied(None, "one", json!({"data": {"a": "1"}}), false).unwrap();
        let refused = applied(Some(&one), "two", json!({"data": {"a": "2"}}), false).unwrap_err();
        assert!(
            refused.to_value()["message"].as_str().unwrap().contains("conflict with \"one\": .data.a"),
            "{refused:?}"
        );
        assert!(applied(Some(&one), "two", json!({"data": {"a": "1"}}), false).is_ok());
        let forced = applied(Some(&one), "two", json!({"data": {"a": "2"}}), true).unwrap();
        // It is two's now: one may leave it out and it stays.
        let left = applied(Some(&forced), "one", json!({"metadata": {}}), false).unwrap();
        assert_eq!(without_managers(left), json!({"data": {"a": "2"}}));
    }

    #[test]
    fn items_of_a_list_are_merged_by_key() {
        let port = |number: u16, name: &str| json!({"port": number, "protocol": "TCP", "name": name});
        let one =
            applied(None, "one", json!({"spec": {"ports": [port(80, "a"), port(81, "b")]}}), false).unwrap();
        let two = applied(Some(&one), "two", json!({"spec": {"ports": [{"port": 82, "name": "c"}]}}), false);
        let fewer = applied(Some(&two.unwrap()), "one", json!({"spec": {"ports": [port(81, "b")]}}), false);
        assert_eq!(
            without_managers(fewer.unwrap()),
            json!({"spec": {"ports": [port(81, "b"), {"port": 82, "name": "c"}]}})
        );
    }

    #[test]
    fn applying_the_same_again_changes_nothing() {
        let wanted = json!({"data": {"a": "1"}, "spec": {"selector": {"x": "y"}}});
        let one = applied(None, "one", wanted.clone(), false).unwrap();
        assert_eq!(applied(Some(&one), "one", wanted, false).unwrap(), one);
    }
}
