//! Who owns which fields: `metadata.managedFields`.

use serde_json::{Value, json};

use crate::{
    fields::{FieldSet, Path, Step, get},
    object::{Fields, metadata_mut},
};

/// Who writes, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manager {
    pub(crate) name: String,
    /// By server-side apply: then what is no longer applied is removed.
    pub(crate) applies: bool,
    pub(crate) subresource: Option<String>,
    pub(crate) api_version: String,
}

/// The fields that a manager has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Owned {
    pub(crate) manager: Manager,
    pub(crate) time: String,
    pub(crate) fields: FieldSet,
}

/// Now, to the second, as in all metadata.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// All owners of an object's fields.
pub(crate) fn owners(object: &Fields) -> Vec<Owned> {
    let entries = object.get("metadata").and_then(|metadata| metadata["managedFields"].as_array());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    entries
        .into_iter()
        .flatten()
        .map(|entry| Owned {
            manager: Manager {
                name: text(&entry["manager"]),
                applies: entry["operation"] == "Apply",
                subresource: entry["subresource"].as_str().map(str::to_owned),
                api_version: text(&entry["apiVersion"]),
            },
            time: text(&entry["time"]),
            fields: FieldSet::from_v1(&entry["fieldsV1"]),
        })
        .collect()
}

/// Writes the owners back; those that own nothing are left out.
pub(crate) fn set_owners(object: &mut Fields, owners: &[Owned]) {
    let entries: Vec<Value> = owners
        .iter()
        .filter(|owned| !owned.fields.0.is_empty())
        .map(|owned| {
            let mut entry = json!({
                "manager": owned.manager.name, "operation": if owned.manager.applies { "Apply" } else { "Update" },
                "apiVersion": owned.manager.api_version, "time": owned.time, "fieldsType": "FieldsV1",
                "fieldsV1": owned.fields.to_v1(),
            });
            if let Some(subresource) = &owned.manager.subresource {
                entry["subresource"] = subresource.as_str().into();
            }
            entry
        })
        .collect();
    let metadata = metadata_mut(object);
    if entries.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".to_owned(), entries.into());
    }
}

/// The fields of an object that somebody can own.
pub(crate) fn ownable(object: &Fields) -> FieldSet {
    let mut set = FieldSet::of(object);
    set.retain(|path| !is_identity(path));
    set
}

fn is_identity(path: &Path) -> bool {
    const IDENTITY: &[&str] = &[
        "name",
        "namespace",
        "generateName",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
        "selfLink",
    ];
    let name = |at: usize| match path.get(at) {
        Some(Step::Field(name)) => name.as_str(),
        _ => "",
    };
    match name(0) {
        "metadata" => IDENTITY.contains(&name(1)) || path.len() == 1,
        "apiVersion" | "kind" => true,
        _ => false,
    }
}

/// Gives `manager` what differs between `before` and `after`, and takes it from all others.
pub(crate) fn track_update(before: Option<&Fields>, after: &mut Fields, manager: Manager) {
    let mut owners = before.map(owners).unwrap_or_default();
    let all = ownable(after);
    let mut changed = all.clone();
    changed.retain(|path| before.and_then(|before| get(before, path)) != get(after, path));
    for owned in &mut owners {
        owned.fields.retain(|path| {
            let taken = owned.manager != manager && changed.0.contains(path) && !is_item(path);
            !taken && (all.touches(path) || get(after, path).is_some())
        });
    }
    // An item that was changed somewhere within still belongs to who made it.
    changed.retain(|path| !is_item(path) || before.is_none_or(|before| get(before, path).is_none()));
    if !changed.0.is_empty() {
        match owners.iter_mut().find(|owned| owned.manager == manager) {
            Some(owned) => {
                owned.fields.0.extend(changed.0);
                owned.time = now();
            }
            None => owners.push(Owned { manager, time: now(), fields: changed }),
        }
    }
    set_owners(after, &owners);
}

/// The item of a list itself, apart from its fields.
pub(crate) fn is_item(path: &Path) -> bool {
    matches!(path.last(), Some(Step::Item(_)))
}
