//! Single objects: identity, versions, deletion, subresources.

use hyper::Method;
use serde_json::{Value, json};

use crate::target::{Target, config_map, version};

pub(crate) async fn discovery_says_what_is_served(target: &Target) {
    assert_eq!(target.version().await.split('.').next(), Some("v1"));
    let groups = target.get("/apis").await.ok();
    let names: Vec<&str> =
        groups["groups"].as_array().unwrap().iter().map(|group| group["name"].as_str().unwrap()).collect();
    for group in ["discovery.k8s.io", "coordination.k8s.io", "apiextensions.k8s.io", "networking.k8s.io"] {
        assert!(names.contains(&group), "{group}");
    }
    let core = target.get("/api/v1").await.ok();
    let find = |name: &str| {
        core["resources"]
            .as_array()
            .unwrap()
            .iter()
            .find(|resource| resource["name"] == name)
            .cloned()
            .unwrap()
    };
    assert_eq!(
        (find("services")["namespaced"].clone(), find("services")["kind"].clone()),
        (json!(true), json!("Service"))
    );
    assert_eq!(find("nodes")["namespaced"], json!(false));
    assert!(find("nodes/status")["verbs"].as_array().unwrap().contains(&json!("patch")));
    assert_eq!(target.get("/apis/no.such.group/v1").await.code, 404);
    assert_eq!(target.get("/readyz").await.body, json!("ok"));
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let aggregated = target.call_for(Method::GET, "/api", "", accept, None).await.ok();
    assert_eq!(aggregated["kind"], "APIGroupDiscoveryList");
    assert_eq!(aggregated["items"][0]["versions"][0]["version"], "v1");
}

pub(crate) async fn an_object_is_created_read_replaced_and_deleted(target: &Target) {
    let namespace = target.namespace("life").await;
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    let one = format!("{all}/one");
    let namespace = target.get("/api/v1/namespaces/life").await.ok();
    assert_eq!(namespace["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "life"}));
    assert_eq!(namespace["status"]["phase"], "Active");
    assert_eq!(target.get(&one).await.refusal(), (404, "NotFound"));
    assert_eq!(target.get(&one).await.message(), "configmaps \"one\" not found");

    let created = target.post(&all, config_map("one", json!({"a": "1"}))).await;
    assert_eq!(created.code, 201);
    let created = created.ok();
    let metadata = &created["metadata"];
    assert_eq!((metadata["namespace"].as_str(), metadata["uid"].as_str().unwrap().len()), (Some("life"), 36));
    assert!(metadata["creationTimestamp"].as_str().unwrap().ends_with('Z'), "{metadata}");
    assert_eq!(target.get(&one).await.ok(), created);

    let again = target.post(&all, config_map("one", json!({}))).await;
    assert_eq!(again.refusal(), (409, "AlreadyExists"));
    assert_eq!(again.body["details"]["kind"], "configmaps");

    let mut next = created.clone();
    next["data"]["a"] = "2".into();
    let replaced = target.put(&one, next.clone()).await.ok();
    assert!(version(&replaced) > version(&created));
    assert_eq!(replaced["metadata"]["uid"], created["metadata"]["uid"]);
    assert_eq!(replaced["metadata"]["creationTimestamp"], created["metadata"]["creationTimestamp"]);
    next["data"]["a"] = "3".into();
    let stale = target.put(&one, next).await;
    assert_eq!(stale.refusal(), (409, "Conflict"));
    assert!(stale.message().contains("the object has been modified"), "{stale:?}");
    // Without a version whatever is there is replaced.
    let unconditional = target.put(&one, config_map("one", json!({"a": "4"}))).await.ok();
    assert_eq!(unconditional["data"], json!({"a": "4"}));
    assert_eq!(unconditional["metadata"]["uid"], created["metadata"]["uid"]);

    let deleted = target.delete(&one).await.ok();
    assert_eq!((deleted["kind"].as_str(), deleted["status"].as_str()), (Some("Status"), Some("Success")));
    assert_eq!(deleted["details"]["uid"], created["metadata"]["uid"]);
    assert_eq!(target.delete(&one).await.refusal(), (404, "NotFound"));
    assert_eq!(target.put(&one, config_map("one", json!({}))).await.refusal(), (404, "NotFound"));
}

pub(crate) async fn a_write_that_changes_nothing_makes_no_version(target: &Target) {
    let namespace = target.namespace("same").await;
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    let created = target.post(&all, config_map("one", json!({"a": "1"}))).await.ok();
    let one = format!("{all}/one");
    assert_eq!(version(&target.put(&one, created.clone()).await.ok()), version(&created));
    assert_eq!(version(&target.merge(&one, json!({"data": {"a": "1"}})).await.ok()), version(&created));
}

pub(crate) async fn a_version_may_be_demanded(target: &Target) {
    let namespace = target.namespace("demanded").await;
    let all = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "one"},
        "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15}});
    // A PUT of what is not there creates it, for this kind.
    let created = target.put(&format!("{all}/one"), lease.clone()).await;
    assert_eq!(created.code, 201);
    let refused = target.put(&format!("{all}/one"), lease).await;
    assert_eq!(refused.refusal(), (422, "Invalid"));
    assert!(refused.message().contains("metadata.resourceVersion"), "{refused:?}");
    let patch = json!({"metadata": {"resourceVersion": "1"}, "spec": {"holderIdentity": "b"}});
    assert_eq!(target.merge(&format!("{all}/one"), patch).await.refusal(), (409, "Conflict"));
}

pub(crate) async fn names_are_generated(target: &Target) {
    let namespace = target.namespace("generated").await;
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "some-"}});
    let created = target.post(&format!("/api/v1/namespaces/{namespace}/configmaps"), object).await.ok();
    let name = created["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("some-") && name.len() == 10, "{name}");
}

pub(crate) async fn what_cannot_be_created_is_refused(target: &Target) {
    let namespace = target.namespace("refused").await;
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    let nowhere = target.post("/api/v1/namespaces/nowhere/configmaps", config_map("a", json!({}))).await;
    assert_eq!(nowhere.refusal(), (404, "NotFound"));
    assert_eq!(nowhere.message(), "namespaces \"nowhere\" not found");
    let mut elsewhere = config_map("a", json!({}));
    elsewhere["metadata"]["namespace"] = "default".into();
    assert_eq!(target.post(&all, elsewhere).await.refusal(), (400, "BadRequest"));
    let nameless = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}});
    assert_eq!(target.post(&all, nameless).await.refusal(), (422, "Invalid"));
    let other = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}});
    assert_eq!(target.post(&all, other).await.refusal(), (400, "BadRequest"));
    let mut versioned = config_map("a", json!({}));
    versioned["metadata"]["resourceVersion"] = "5".into();
    assert_eq!(target.post(&all, versioned).await.code, 500, "no mistake of ours: so it is there");
    target.post(&all, config_map("b", json!({}))).await.ok();
    assert_eq!(
        target.put(&format!("{all}/b"), config_map("c", json!({}))).await.refusal(),
        (400, "BadRequest")
    );
}

pub(crate) async fn a_namespace_goes_when_its_content_has_gone(target: &Target) {
    let namespace = target.namespace("ending").await;
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    target.post(&all, config_map("one", json!({}))).await.ok();
    let marked = target.delete("/api/v1/namespaces/ending").await.ok();
    assert_eq!(
        (marked["kind"].as_str(), marked["status"]["phase"].as_str()),
        (Some("Namespace"), Some("Terminating"))
    );
    // A controller that is not here would empty it.
    assert_eq!(target.get(&format!("{all}/one")).await.code, 200);
    let refused = target.post(&all, config_map("two", json!({}))).await;
    assert_eq!(refused.refusal(), (403, "Forbidden"));
    assert_eq!(
        refused.message(),
        "configmaps \"two\" is forbidden: unable to create new content in namespace ending because it is being terminated"
    );
    assert_eq!(target.merge(&format!("{all}/one"), json!({"data": {"a": "1"}})).await.code, 200);
}

pub(crate) async fn deletion_has_preconditions(target: &Target) {
    let namespace = target.namespace("preconditions").await;
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    let created = target.post(&all, config_map("one", json!({}))).await.ok();
    let one = format!("{all}/one");
    let delete = async |preconditions: Value| {
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions});
        target.call(Method::DELETE, &one, "application/json", Some(options)).await
    };
    let other = delete(json!({"uid": "00000000-0000-0000-0000-000000000000"})).await;
    assert_eq!(other.refusal(), (409, "Conflict"));
    assert_eq!(delete(json!({"resourceVersion": "1"})).await.refusal(), (409, "Conflict"));
    let metadata = &created["metadata"];
    let same = json!({"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]});
    assert_eq!(delete(same).await.code, 200);
}

pub(crate) async fn finalizers_hold_an_object(target: &Target) {
    let namespace = target.namespace("finalizers").await;
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    let mut object = config_map("held", json!({}));
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let created = target.post(&all, object).await.ok();
    let held = format!("{all}/held");
    let mut events = target.watch(&format!("{all}?watch=true&resourceVersion={}", version(&created))).await;

    let marked = target.delete(&held).await.ok();
    assert_eq!(marked["kind"], "ConfigMap");
    assert!(marked["metadata"]["deletionTimestamp"].is_string(), "{marked}");
    assert_eq!(events.short().await, "MODIFIED held");
    // Once more changes nothing.
    assert_eq!(version(&target.delete(&held).await.ok()), version(&marked));
    let done = target.merge(&held, json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(done.code, 200);
    assert_eq!(events.short().await, "DELETED held");
    assert_eq!(target.get(&held).await.code, 404);
}

pub(crate) async fn a_pod_on_a_node_goes_when_its_kubelet_says_so(target: &Target) {
    let namespace = target.namespace("pods").await;
    let all = format!("/api/v1/namespaces/{namespace}/pods");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
        "spec": {"nodeName": "one", "containers": [{"name": "c", "image": "i"}]}});
    target.post(&all, pod).await.ok();
    let marked = target.delete(&format!("{all}/a?gracePeriodSeconds=20")).await.ok();
    assert_eq!(
        (marked["kind"].as_str(), marked["metadata"]["deletionGracePeriodSeconds"].as_u64()),
        (Some("Pod"), Some(20))
    );
    assert_eq!(target.get(&format!("{all}/a")).await.code, 200);
    assert_eq!(target.delete(&format!("{all}/a?gracePeriodSeconds=0")).await.ok()["kind"], "Pod");
    assert_eq!(target.get(&format!("{all}/a")).await.code, 404);
}

pub(crate) async fn status_is_written_by_itself(target: &Target) {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "halves"}, "spec": {"podCIDR": "10.1.0.0/24"}});
    target.post("/api/v1/nodes", node).await.ok();
    let one = "/api/v1/nodes/halves";
    let addresses = json!([{"type": "InternalIP", "address": "10.0.0.1"}]);
    let both = json!({"status": {"addresses": addresses}, "spec": {"unschedulable": true}});
    let after = target.merge(&format!("{one}/status"), both.clone()).await.ok();
    assert_eq!((&after["status"]["addresses"], &after["spec"]["unschedulable"]), (&addresses, &Value::Null));
    let mut changed = both;
    changed["status"]["addresses"][0]["address"] = "10.0.0.2".into();
    let after = target.merge(one, changed).await.ok();
    assert_eq!((&after["status"]["addresses"], &after["spec"]["unschedulable"]), (&addresses, &json!(true)));
    assert_eq!(target.get(&format!("{one}/status")).await.ok()["kind"], "Node");
    assert_eq!(target.get(&format!("{one}/nothing")).await.code, 404);
    target.delete(one).await.ok();
}

pub(crate) async fn a_dry_run_writes_nothing(target: &Target) {
    let namespace = target.namespace("dry").await;
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    let tried = target.post(&format!("{all}?dryRun=All"), config_map("one", json!({"a": "1"}))).await;
    assert_eq!((tried.code, tried.body["data"]["a"].as_str()), (201, Some("1")));
    assert_eq!(target.get(&format!("{all}/one")).await.code, 404);
    target.post(&all, config_map("one", json!({"a": "1"}))).await.ok();
    target.merge(&format!("{all}/one?dryRun=All"), json!({"data": {"a": "2"}})).await.ok();
    target.delete(&format!("{all}/one?dryRun=All")).await.ok();
    assert_eq!(target.get(&format!("{all}/one")).await.ok()["data"]["a"], "1");
}

pub(crate) async fn only_metadata_may_be_asked_for(target: &Target) {
    let namespace = target.namespace("partial").await;
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    target.post(&all, config_map("one", json!({"a": "1"}))).await.ok();
    let one = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let list = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let object = target.call_for(Method::GET, &format!("{all}/one"), "", one, None).await.ok();
    assert_eq!((object["kind"].as_str(), &object["data"]), (Some("PartialObjectMetadata"), &Value::Null));
    assert_eq!(object["metadata"]["name"], "one");
    let objects = target.call_for(Method::GET, &format!("{all}?limit=1"), "", list, None).await.ok();
    assert_eq!(objects["kind"], "PartialObjectMetadataList");
    assert_eq!(
        (&objects["items"][0]["data"], &objects["items"][0]["metadata"]["name"]),
        (&Value::Null, &json!("one"))
    );
    let path = format!("{all}?watch=true&timeoutSeconds=5&fieldSelector=metadata.name%3Done");
    let event = target.watch_for(&path, one).await.next().await.unwrap();
    assert_eq!(
        (event["type"].as_str(), event["object"]["kind"].as_str()),
        (Some("ADDED"), Some("PartialObjectMetadata"))
    );
}

pub(crate) async fn a_slice_counts_its_generations(target: &Target) {
    let namespace = target.namespace("generations").await;
    let all = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "one"},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]});
    let created = target.post(&all, slice).await.ok();
    assert_eq!(created["metadata"]["generation"], 1);
    let one = format!("{all}/one");
    let labelled = target.merge(&one, json!({"metadata": {"annotations": {"a": "b"}}})).await.ok();
    assert_eq!(labelled["metadata"]["generation"], 1);
    let changed = target.merge(&one, json!({"endpoints": [{"addresses": ["10.0.0.2"]}]})).await.ok();
    assert_eq!(changed["metadata"]["generation"], 2);
}

pub(crate) async fn a_collection_is_deleted_by_selector(target: &Target) {
    let namespace = target.namespace("collection").await;
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    for name in ["a", "b", "c"] {
        let mut object = config_map(name, json!({}));
        object["metadata"]["labels"] = json!({"keep": (name == "c").to_string()});
        target.post(&all, object).await.ok();
    }
    let deleted = target.delete(&format!("{all}?labelSelector=keep%3Dfalse")).await.ok();
    assert_eq!(deleted["kind"], "ConfigMapList", "{deleted}");
    let left = target.get(&all).await.ok();
    let names: Vec<&Value> =
        left["items"].as_array().unwrap().iter().map(|item| &item["metadata"]["name"]).collect();
    assert_eq!(names, [&json!("c")]);
}
