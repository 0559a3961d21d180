//! What is in a document that is a list.

use serde_json::Value;

/// The objects in a document: itself, or the items of a list (`kind: List`, `ServiceList`, ...), with the `apiVersion` and `kind`
/// that those of a typed list leave out.
pub fn items(document: Value) -> Vec<Value> {
    let mut items = Vec::new();
    add(document, &mut items);
    items
}

fn add(mut document: Value, to: &mut Vec<Value>) {
    let text = |field: &str| document.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let is_list = !api_version.is_empty() && document.get("items").is_some_and(Value::is_array);
    let Some(item_kind) = kind.strip_suffix("List").filter(|_| is_list) else { return to.push(document) };
    let Value::Array(items) = document["items"].take() else { return };
    for mut item in items {
        if let (Value::Object(fields), false) = (&mut item, item_kind.is_empty()) {
            fields.entry("apiVersion").or_insert_with(|| api_version.clone().into());
            fields.entry("kind").or_insert_with(|| item_kind.into());
        }
        add(item, to);
    }
}
