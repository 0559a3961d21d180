//! What kube-rs makes of the server: watchers, leases, events.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::ConfigMap};
use kube::{
    Api, Resource, ResourceExt,
    api::{GroupVersionKind, ListParams, Patch, PatchParams, PostParams},
    discovery::{Discovery, Scope},
    runtime::{
        events::{Event, EventType, Recorder, Reporter},
        watcher::{self, Config, watcher},
    },
};
use serde_json::json;
use tokio::time::timeout;

use crate::target::{Target, config_map};

/// What a watcher has seen in the end, in a namespace where things happen.
async fn watched(target: &Target, namespace: &str, config: Config) {
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    for at in 0..7 {
        target.post(&all, config_map(&format!("before-{at}"), json!({}))).await.ok();
    }
    let api: Api<ConfigMap> = Api::namespaced(target.client(), namespace);
    let mut stream = watcher(api.clone(), config).boxed();
    let mut seen = BTreeMap::new();
    let mut follow = async |seen: &mut BTreeMap<String, String>, until: &str| loop {
        let event =
            timeout(Duration::from_secs(20), stream.try_next()).await.expect("no event in time").unwrap();
        match event.unwrap() {
            watcher::Event::Init => seen.clear(),
            watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
                seen.insert(object.name_any(), object.resource_version().unwrap());
            }
            watcher::Event::Delete(object) => drop(seen.remove(&object.name_any())),
            watcher::Event::InitDone if until.is_empty() => return,
            watcher::Event::InitDone => {}
        }
        if seen.contains_key(until) {
            return;
        }
    };
    follow(&mut seen, "").await;
    assert_eq!(seen.len(), 7);
    target.delete(&format!("{all}/before-3")).await.ok();
    target.merge(&format!("{all}/before-4"), json!({"data": {"x": "y"}})).await.ok();
    target.post(&all, config_map("last", json!({}))).await.ok();
    follow(&mut seen, "last").await;
    let list = api.list(&ListParams::default()).await.unwrap();
    let now: BTreeMap<String, String> =
        list.iter().map(|object| (object.name_any(), object.resource_version().unwrap())).collect();
    assert_eq!(seen, now);
}

pub(crate) async fn a_watcher_lists_and_watches(target: &Target) {
    let namespace = target.namespace("watcher").await;
    watched(target, &namespace, Config::default().page_size(3)).await;
}

pub(crate) async fn a_watcher_streams_its_list(target: &Target) {
    let namespace = target.namespace("streamer").await;
    watched(target, &namespace, Config::default().streaming_lists()).await;
}

pub(crate) async fn discovery_in_both_forms(target: &Target) {
    for aggregated in [false, true] {
        let discovery = Discovery::new(target.client()).filter(&["", "discovery.k8s.io"]);
        let discovery =
            if aggregated { discovery.run_aggregated().await } else { discovery.run().await }.unwrap();
        let find = |kind: &GroupVersionKind| discovery.resolve_gvk(kind);
        let (slices, capabilities) =
            find(&GroupVersionKind::gvk("discovery.k8s.io", "v1", "EndpointSlice")).unwrap();
        assert_eq!((slices.plural.as_str(), capabilities.scope), ("endpointslices", Scope::Namespaced));
        let (nodes, capabilities) = find(&GroupVersionKind::gvk("", "v1", "Node")).unwrap();
        assert_eq!((nodes.plural.as_str(), capabilities.scope.clone()), ("nodes", Scope::Cluster));
        assert!(capabilities.supports_operation("watch"));
        assert!(find(&GroupVersionKind::gvk("", "v1", "Nothing")).is_none());
    }
}

pub(crate) async fn leases_change_hands(target: &Target) {
    let namespace = target.namespace("leases").await;
    let api: Api<Lease> = Api::namespaced(target.client(), &namespace);
    let lease = |holder: &str| {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "leader"},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 10,
                "renewTime": "2026-01-01T00:00:00.000000Z", "acquireTime": "2026-01-01T00:00:00.000000Z"}})
    };
    let apply = PatchParams::apply("one");
    let held = api.patch("leader", &apply, &Patch::Apply(lease("one"))).await.unwrap();
    assert_eq!(held.spec.as_ref().unwrap().holder_identity.as_deref(), Some("one"));
    let other = api.patch("leader", &PatchParams::apply("two"), &Patch::Apply(lease("two"))).await;
    assert!(matches!(&other, Err(kube::Error::Api(status)) if status.code == 409), "{other:?}");
    let mut mine = held.clone();
    mine.spec.as_mut().unwrap().holder_identity = Some("two".to_owned());
    let taken = api.replace("leader", &PostParams::default(), &mine).await.unwrap();
    assert_eq!(taken.spec.unwrap().holder_identity.as_deref(), Some("two"));
    let late = api.replace("leader", &PostParams::default(), &held).await;
    assert!(matches!(&late, Err(kube::Error::Api(status)) if status.code == 409), "{late:?}");
}

pub(crate) async fn events_are_recorded(target: &Target) {
    let namespace = target.namespace("recorded").await;
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    target.post(&all, config_map("one", json!({}))).await.ok();
    let api: Api<ConfigMap> = Api::namespaced(target.client(), &namespace);
    let about = api.get("one").await.unwrap().object_ref(&());
    let recorder = Recorder::new(target.client(), Reporter { controller: "test".into(), instance: None });
    let event = Event {
        type_: EventType::Warning,
        reason: "NotUnderstood".into(),
        note: Some("port 70000".into()),
        action: "Read".into(),
        secondary: None,
    };
    for _ in 0..2 {
        recorder.publish(&event, &about).await.unwrap();
    }
    let list = target.get(&format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events")).await.ok();
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "the second is counted in the first: {list}");
    let one = &list["items"][0];
    assert_eq!((one["reason"].as_str(), &one["regarding"]["name"]), (Some("NotUnderstood"), &json!("one")));
    assert_eq!(one["series"]["count"], 2);
}
