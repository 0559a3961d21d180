//! What is served: `/api`, `/apis`, and the lists of resources, old form and aggregated.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{kind::Kind, store::Store};

const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const STATUS_VERBS: &[&str] = &["get", "patch", "update"];

/// The document at `path`; `accept` says whether a client understands the aggregated form.
pub(crate) fn document(store: &Store, path: &str, accept: &str) -> Option<Value> {
    let is_aggregated = accept.contains("g=apidiscovery.k8s.io") && accept.contains("v=v2;");
    let steps: Vec<&str> = path.split('/').filter(|step| !step.is_empty()).collect();
    match steps.as_slice() {
        ["version"] => Some(json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0+double",
            "gitCommit": "", "gitTreeState": "clean", "buildDate": "2026-01-01T00:00:00Z",
            "goVersion": "", "compiler": "", "platform": "linux/amd64"})),
        ["api"] if is_aggregated => Some(aggregated(store, true)),
        ["apis"] if is_aggregated => Some(aggregated(store, false)),
        ["api"] => Some(json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})),
        ["apis"] => {
            let groups = groups(store).into_iter().filter(|(name, _)| !name.is_empty());
            let groups: Vec<Value> = groups.map(|(name, versions)| group(&name, &versions)).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] => {
            let mut group = group(name, groups(store).get(*name)?);
            group["kind"] = "APIGroup".into();
            group["apiVersion"] = "v1".into();
            Some(group)
        }
        ["api", version] => resources(store, "", version),
        ["apis", group, version] => resources(store, group, version),
        _ => None,
    }
}

/// Groups and their versions, preferred first.
fn groups(store: &Store) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for kind in store.kinds() {
        let versions = groups.entry(kind.group.clone()).or_default();
        for version in &kind.versions {
            if !versions.contains(version) {
                versions.push(version.clone());
            }
        }
    }
    groups
}

fn group(name: &str, versions: &[String]) -> Value {
    let entry = |version: &String| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    let entries: Vec<Value> = versions.iter().map(entry).collect();
    json!({"name": name, "preferredVersion": entries[0], "versions": entries})
}

fn served<'a>(store: &'a Store, group: &'a str, version: &'a str) -> impl Iterator<Item = &'a Kind> {
    let is_served =
        move |kind: &&Kind| kind.group == group && kind.versions.iter().any(|known| known == version);
    store.kinds().iter().map(AsRef::as_ref).filter(is_served)
}

fn resources(store: &Store, group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    let mut api_version = None;
    for kind in served(store, group, version) {
        api_version = Some(kind.api_version_of(version));
        let entry = |name: String, verbs: &[&str]| json!({"name": name, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind, "verbs": verbs});
        resources.push(entry(kind.plural.clone(), VERBS));
        if kind.status {
            resources.push(entry(format!("{}/status", kind.plural), STATUS_VERBS));
        }
    }
    Some(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version?, "resources": resources}),
    )
}

fn aggregated(store: &Store, core: bool) -> Value {
    let groups = groups(store).into_iter().filter(|(name, _)| name.is_empty() == core);
    let items: Vec<Value> = groups
        .map(|(name, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let kinds = served(store, &name, version);
                    let resources: Vec<Value> =
                        kinds.map(|kind| aggregated_resource(kind, version)).collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            json!({"metadata": {"name": name, "creationTimestamp": null}, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregated_resource(kind: &Kind, version: &str) -> Value {
    let response_kind = json!({"group": kind.group, "version": version, "kind": kind.kind});
    let mut resource = json!({
        "resource": kind.plural, "singularResource": kind.singular, "responseKind": response_kind,
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" }, "verbs": VERBS,
    });
    if kind.status {
        resource["subresources"] =
            json!([{"subresource": "status", "responseKind": response_kind, "verbs": STATUS_VERBS}]);
    }
    resource
}
