//! Who may do what.

use hyper::Request;
use kube::client::Body;
use serde_json::{Value, json};

use crate::target::{LIMITED, Target, config_map};

async fn get_as(target: &Target, token: &str, path: &str) -> (u16, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let answer = target.as_user(token).send(request).await.unwrap();
    let code = answer.status().as_u16();
    let bytes = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    (code, body["message"].as_str().unwrap_or_default().to_owned())
}

pub(crate) async fn a_token_must_be_known(target: &Target) {
    let (code, message) = get_as(target, "somebody-else", "/api/v1/nodes").await;
    assert_eq!((code, message.as_str()), (401, "Unauthorized"));
}

pub(crate) async fn roles_allow(target: &Target) {
    let namespace = target.namespace("roles").await;
    let (code, message) = get_as(target, LIMITED, "/api/v1/namespaces/roles/pods").await;
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "pods is forbidden: User \"limited\" cannot list resource \"pods\" in API group \"\" in the namespace \"roles\""
    );
    let (code, message) = get_as(target, LIMITED, "/api/v1/nodes/x/status").await;
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "nodes \"x\" is forbidden: User \"limited\" cannot get resource \"nodes/status\" in API group \"\" at the cluster scope"
    );
    let group = "rbac.authorization.k8s.io";
    let roles = format!("/apis/{group}/v1/namespaces/{namespace}");
    let role = json!({"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": {"name": "reader"},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]});
    let binding = json!({"apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": {"name": "reader"},
        "subjects": [{"kind": "User", "name": "limited", "apiGroup": group}],
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "reader"}});
    target.post(&format!("{roles}/roles"), role).await.ok();
    target.post(&format!("{roles}/rolebindings"), binding).await.ok();
    let allowed = async |path: &str| get_as(target, LIMITED, path).await.0;
    target
        .eventually("the role counts", async |_| allowed("/api/v1/namespaces/roles/pods").await == 200)
        .await;
    assert_eq!(allowed("/api/v1/namespaces/roles/pods?watch=true&timeoutSeconds=1").await, 200);
    assert_eq!(allowed("/api/v1/namespaces/roles/pods/none").await, 404);
    assert_eq!(allowed("/api/v1/namespaces/roles/services").await, 403);
    assert_eq!(allowed("/api/v1/namespaces/default/pods").await, 403);
    assert_eq!(allowed("/api/v1/pods").await, 403);
    assert_eq!(allowed("/apis").await, 200, "discovery is for all who have logged in");
}

pub(crate) async fn who_asks_is_told_what_it_may(target: &Target) {
    let group = "rbac.authorization.k8s.io";
    let role = json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": {"name": "asks"},
        "rules": [{"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list"]}]});
    let binding = json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "asks"},
        "subjects": [{"kind": "User", "name": "limited", "apiGroup": group}],
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "asks"}});
    target.post(&format!("/apis/{group}/v1/clusterroles"), role).await.ok();
    target.post(&format!("/apis/{group}/v1/clusterrolebindings"), binding).await.ok();
    let may = async |attributes: Value| {
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes}});
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let body = Body::from(review.to_string().into_bytes());
        let request = Request::post(path).header("content-type", "application/json").body(body).unwrap();
        let answer = target.as_user(LIMITED).send(request).await.unwrap();
        assert_eq!(answer.status().as_u16(), 201);
        let bytes = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        let review: Value = serde_json::from_slice(&bytes).unwrap();
        review["status"]["allowed"].as_bool().unwrap()
    };
    let slices =
        |verb: &str| json!({"group": "discovery.k8s.io", "resource": "endpointslices", "verb": verb});
    target.eventually("the role counts", async |_| may(slices("list")).await).await;
    assert!(!may(slices("watch")).await);
    assert!(
        !may(json!({"resource": "nodes", "subresource": "status", "verb": "patch", "name": "one"})).await
    );
}

pub(crate) async fn names_in_rules(target: &Target) {
    target.namespace("named").await;
    for name in ["mine", "theirs"] {
        target.post("/api/v1/namespaces/named/configmaps", config_map(name, json!({}))).await.ok();
    }
    let group = "rbac.authorization.k8s.io";
    let role = json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": {"name": "one-map"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"], "verbs": ["get"]},
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["mine"], "verbs": ["list"]}]});
    let binding = json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "one-map"},
        "subjects": [{"kind": "User", "name": "limited", "apiGroup": group}],
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "one-map"}});
    target.post(&format!("/apis/{group}/v1/clusterroles"), role).await.ok();
    target.post(&format!("/apis/{group}/v1/clusterrolebindings"), binding).await.ok();
    let allowed = async |path: &str| get_as(target, LIMITED, path).await.0;
    let mine = "/api/v1/namespaces/named/configmaps/mine";
    target.eventually("the role counts", async |_| allowed(mine).await == 200).await;
    // Whoever asks for a part that is one object by name asks for that object.
    let part = "/api/v1/namespaces/named/configmaps?fieldSelector=metadata.name%3Dmine";
    assert_eq!(allowed(part).await, 403, "a list needs the verb too");
    assert_eq!(allowed("/api/v1/namespaces/named/secrets?fieldSelector=metadata.name%3Dmine").await, 200);
    assert_eq!(allowed("/api/v1/namespaces/named/secrets?fieldSelector=metadata.name%3Dtheirs").await, 403);
    assert_eq!(allowed("/api/v1/namespaces/named/configmaps/theirs").await, 403);
    assert_eq!(allowed("/api/v1/namespaces/named/configmaps").await, 403);
}
