//! Sets of fields, as `metadata.managedFields` holds them: `f:name`, `k:{"port":80}`, `v:"one"`.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// One step from a value to a part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Field(String),
    /// The item of a list whose keys are these: an object as JSON.
    Item(String),
    /// An element of a set: as JSON.
    Element(String),
}

/// From the object to one of its parts.
pub(crate) type Path = Vec<Step>;

/// A set of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSet(pub(crate) BTreeSet<Path>);

/// How a list is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lists {
    /// As one value.
    Atomic,
    /// Element by element.
    Set,
    /// Item by item; these are the keys.
    Items(&'static [&'static str]),
}

impl FieldSet {
    /// The leaves of `value`, and the items of its lists.
    pub(crate) fn of(value: &Map<String, Value>) -> Self {
        let mut set = Self::default();
        for (name, value) in value {
            set.collect(value, &mut vec![Step::Field(name.clone())]);
        }
        set
    }

    fn collect(&mut self, value: &Value, path: &mut Path) {
        match value {
            Value::Null => {}
            Value::Object(map) if !map.is_empty() && !is_atomic_map(path) => {
                for (name, value) in map {
                    path.push(Step::Field(name.clone()));
                    self.collect(value, path);
                    path.pop();
                }
            }
            Value::Array(list) if lists(path) != Lists::Atomic => {
                let rule = lists(path);
                for item in list {
                    path.push(step(rule, item));
                    self.0.insert(path.clone());
                    for (name, value) in item.as_object().into_iter().flatten() {
                        path.push(Step::Field(name.clone()));
                        self.collect(value, path);
                        path.pop();
                    }
                    path.pop();
                }
            }
            _ => {
                self.0.insert(path.clone());
            }
        }
    }

    /// As in `fieldsV1`.
    pub(crate) fn to_v1(&self) -> Value {
        let mut root = json!({});
        for path in &self.0 {
            let mut place = &mut root;
            for (at, step) in path.iter().enumerate() {
                place = &mut place[step.to_v1()];
                if place.is_null() {
                    *place = json!({});
                }
                if at + 1 == path.len() && !matches!(step, Step::Field(_)) {
                    place["."] = json!({});
                }
            }
        }
        root
    }

    pub(crate) fn from_v1(value: &Value) -> Self {
        let mut set = Self::default();
        set.read(value, &mut Vec::new());
        set
    }

    fn read(&mut self, value: &Value, path: &mut Path) {
        let Some(map) = value.as_object() else { return };
        if map.is_empty() && !path.is_empty() {
            self.0.insert(path.clone());
        }
        for (name, below) in map {
            if name == "." {
                self.0.insert(path.clone());
            } else if let Some(step) = Step::from_v1(name) {
                path.push(step);
                self.read(below, path);
                path.pop();
            }
        }
    }

    /// Contains `path` or something below it.
    pub(crate) fn touches(&self, path: &Path) -> bool {
        self.0.range(path.clone()..).next().is_some_and(|found| found.starts_with(path))
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&Path) -> bool) {
        self.0.retain(keep);
    }
}

impl Step {
    fn to_v1(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Item(keys) => format!("k:{keys}"),
            Self::Element(value) => format!("v:{value}"),
        }
    }

    fn from_v1(text: &str) -> Option<Self> {
        let (form, rest) = text.split_once(':')?;
        Some(match form {
            "f" => Self::Field(rest.to_owned()),
            "k" => Self::Item(serde_json::from_str::<Value>(rest).ok()?.to_string()),
            "v" => Self::Element(serde_json::from_str::<Value>(rest).ok()?.to_string()),
            _ => return None,
        })
    }
}

/// Which item of a list this is.
pub(crate) fn step(rule: Lists, item: &Value) -> Step {
    let Lists::Items(keys) = rule else { return Step::Element(item.to_string()) };
    let mut named = Map::new();
    for &key in keys {
        match &item[key] {
            // The only key that has a default.
            Value::Null if key == "protocol" => named.insert(key.to_owned(), "TCP".into()),
            Value::Null => None,
            value => named.insert(key.to_owned(), value.clone()),
        };
    }
    Step::Item(Value::Object(named).to_string())
}

/// The part of `value` at `path`.
pub(crate) fn get<'a>(value: &'a Map<String, Value>, path: &[Step]) -> Option<&'a Value> {
    let Some((Step::Field(first), rest)) = path.split_first() else { return None };
    let mut place = value.get(first)?;
    for (at, step) in rest.iter().enumerate() {
        place = match step {
            Step::Field(name) => place.get(name)?,
            _ => &place.as_array()?[position(place, &path[..=at], step)?],
        };
    }
    Some(place)
}

/// Removes what is at `path`, and the maps and lists that are empty then.
pub(crate) fn remove(value: &mut Map<String, Value>, path: &[Step]) {
    let Some((Step::Field(first), rest)) = path.split_first() else { return };
    match value.get_mut(first) {
        Some(below) if !rest.is_empty() => {
            remove_below(below, path, 1);
            if is_empty(below) {
                value.remove(first);
            }
        }
        _ => {
            value.remove(first);
        }
    }
}

fn remove_below(place: &mut Value, path: &[Step], at: usize) {
    let last = at + 1 == path.len();
    match &path[at] {
        // The keys of an item go with the item: without them it would be another.
        Step::Field(name) if last && is_key(&path[at - 1], name) => {}
        Step::Field(name) => {
            let Some(map) = place.as_object_mut() else { return };
            if let Some(below) = map.get_mut(name).filter(|_| !last) {
                remove_below(below, path, at + 1);
                if !is_empty(below) {
                    return;
                }
            }
            map.remove(name);
        }
        step => {
            let Some(found) = position(place, &path[..at], step) else { return };
            let Some(list) = place.as_array_mut() else { return };
            if last {
                list.remove(found);
            } else {
                remove_below(&mut list[found], path, at + 1);
            }
        }
    }
}

fn is_key(item: &Step, name: &str) -> bool {
    let Step::Item(keys) = item else { return false };
    serde_json::from_str::<Value>(keys).is_ok_and(|keys| keys.get(name).is_some())
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// Where `wanted` is in the list `place`, which is at `path`.
pub(crate) fn position(place: &Value, path: &[Step], wanted: &Step) -> Option<usize> {
    let rule = lists(path);
    place.as_array()?.iter().position(|item| step(rule, item) == *wanted)
}

/// How the list at `path` is merged, for the kinds that are applied here; what is not known is atomic.
pub(crate) fn lists(path: &[Step]) -> Lists {
    let mut names = path.iter().rev().map(|step| match step {
        Step::Field(name) => name.as_str(),
        _ => "",
    });
    match (names.next().unwrap_or_default(), names.next()) {
        ("conditions", Some("status")) => Lists::Items(&["type"]),
        ("addresses", Some("status")) => Lists::Items(&["type"]),
        ("ownerReferences", Some("metadata")) => Lists::Items(&["uid"]),
        ("finalizers", Some("metadata")) => Lists::Set,
        ("ports", Some("spec")) => Lists::Items(&["port", "protocol"]),
        ("ports", Some("")) => Lists::Items(&["containerPort", "protocol"]),
        ("containers" | "initContainers" | "volumes", Some("spec")) => Lists::Items(&["name"]),
        ("env", Some("")) => Lists::Items(&["name"]),
        ("volumeMounts", Some("")) => Lists::Items(&["mountPath"]),
        ("webhooks", None) => Lists::Items(&["name"]),
        _ => Lists::Atomic,
    }
}

/// Maps that are one value: selectors.
pub(crate) fn is_atomic_map(path: &[Step]) -> bool {
    const ATOMIC: &[&str] = &["selector", "nodeSelector", "podSelector", "fieldsV1"];
    matches!(path.last(), Some(Step::Field(name)) if ATOMIC.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> Value {
        json!({"metadata": {"finalizers": ["a", "b"], "labels": {"x": "1"}},
            "spec": {"selector": {"app": "a"}, "ports": [{"port": 80, "name": "http"}], "externalIPs": ["1.2.3.4"]}})
    }

    #[test]
    fn a_set_survives_its_printed_form() {
        let set = FieldSet::of(service().as_object().unwrap());
        let printed = set.to_v1();
        assert_eq!(
            printed,
            json!({"f:metadata": {"f:finalizers": {"v:\"a\"": {".": {}}, "v:\"b\"": {".": {}}}, "f:labels": {"f:x": {}}},
                "f:spec": {"f:selector": {}, "f:externalIPs": {}, "f:ports": {
                    "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}, "f:name": {}}}}})
        );
        assert_eq!(FieldSet::from_v1(&printed), set);
    }

    #[test]
    fn all_fields_of_a_set_are_found_and_removing_them_leaves_nothing() {
        let mut value = service().as_object().unwrap().clone();
        let set = FieldSet::of(&value);
        for path in set.0.iter().rev() {
            assert!(get(&value, path).is_some(), "{path:?}");
            remove(&mut value, path);
        }
        assert_eq!(Value::Object(value), json!({}));
    }
}
