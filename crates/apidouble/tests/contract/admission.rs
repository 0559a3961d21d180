//! Webhooks. Those of a check are for objects of its namespace only, so that checks do not meet.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use apidouble::{Cluster, Identity};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::target::{Target, config_map, version};

/// A webhook server of a check.
struct Hooks {
    port: u16,
    ca: String,
    /// What it was asked: the requests of the reviews.
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Hooks {
    async fn start() -> Self {
        let authority = Cluster::new();
        let Identity { certificate, key } = authority.issue_server(&["127.0.0.1"]).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, log) = (acceptor.clone(), log.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(tcp).await else { return };
                    let service = service_fn(move |request| answer(request, log.clone()));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { port, ca: BASE64_STANDARD.encode(authority.ca().unwrap()), asked }
    }

    /// Configures one webhook for ConfigMaps of `namespace`, and waits until it is asked.
    async fn configure(&self, target: &Target, kind: &str, namespace: &str, path: &str, extra: Value) {
        let configuration = format!("{namespace}-{path}");
        let mut webhook = json!({
            "name": format!("{path}.example.com"), "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": format!("https://127.0.0.1:{}/{path}", self.port), "caBundle": self.ca},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE", "UPDATE"]}],
        });
        json_patch::merge(&mut webhook, &extra);
        let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": configuration}, "webhooks": [webhook]});
        let resource = format!("/apis/admissionregistration.k8s.io/v1/{}s", kind.to_lowercase());
        target.post(&resource, object).await.ok();
        // A real server takes a moment to see it.
        let probe = format!("/api/v1/namespaces/{namespace}/configmaps?dryRun=All");
        target
            .eventually("the webhook is asked", async |target| {
                target.post(&probe, config_map("probe", json!({"probe": path}))).await;
                path == "nobody" || !self.asked.lock().unwrap().is_empty()
            })
            .await;
        tokio::time::sleep(Duration::from_millis(if path == "nobody" { 2000 } else { 100 })).await;
        self.asked.lock().unwrap().clear();
    }
}

async fn answer(
    request: Request<Incoming>,
    log: Arc<Mutex<Vec<Value>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let bytes = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&bytes).unwrap();
    let asked = &review["request"];
    let mut response = json!({"uid": asked["uid"], "allowed": true});
    match path.as_str() {
        "/change" => {
            let patch = json!([{"op": "add", "path": "/metadata/labels", "value": {"changed": "yes"}}]);
            response["patchType"] = "JSONPatch".into();
            response["patch"] = BASE64_STANDARD.encode(patch.to_string()).into();
        }
        "/judge" if asked["object"]["data"]["bad"] == "true" => {
            response["allowed"] = false.into();
            response["status"] = json!({"code": 403, "message": "data.bad is true"});
        }
        "/refuse" => response["allowed"] = false.into(),
        _ => {}
    }
    log.lock().unwrap().push(asked.clone());
    let review =
        json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
    Ok(Response::new(Full::new(Bytes::from(review.to_string()))))
}

pub(crate) async fn webhooks_change_and_refuse(target: &Target) {
    let namespace = target.namespace("hooks").await;
    let hooks = Hooks::start().await;
    hooks.configure(target, "MutatingWebhookConfiguration", &namespace, "change", json!({})).await;
    hooks.configure(target, "ValidatingWebhookConfiguration", &namespace, "judge", json!({})).await;
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    let created = target.post(&all, config_map("one", json!({"a": "1"}))).await.ok();
    assert_eq!(created["metadata"]["labels"], json!({"changed": "yes"}));
    let refused = target.post(&all, config_map("two", json!({"bad": "true"}))).await;
    assert_eq!(
        (refused.code, refused.message()),
        (403, "admission webhook \"judge.example.com\" denied the request: data.bad is true")
    );
    assert_eq!(target.get(&format!("{all}/two")).await.code, 404);
    let refused = target.merge(&format!("{all}/one"), json!({"data": {"bad": "true"}})).await;
    assert_eq!(refused.code, 403);
    assert_eq!(version(&target.get(&format!("{all}/one")).await.ok()), version(&created));
    // Elsewhere nobody is asked.
    let elsewhere = target.namespace("hookless").await;
    let all = format!("/api/v1/namespaces/{elsewhere}/configmaps");
    let created = target.post(&all, config_map("two", json!({"bad": "true"}))).await.ok();
    assert_eq!(created["metadata"]["labels"], Value::Null);

    let hooks = Hooks::start().await;
    hooks.configure(target, "ValidatingWebhookConfiguration", &elsewhere, "refuse", json!({})).await;
    let refused = target.post(&all, config_map("three", json!({}))).await;
    let message = "admission webhook \"refuse.example.com\" denied the request without explanation";
    assert_eq!((refused.code, refused.message()), (400, message));
}

pub(crate) async fn webhooks_that_fail(target: &Target) {
    for (policy, code) in [("Fail", 500), ("Ignore", 201)] {
        let namespace = target.namespace(&format!("absent-{}", policy.to_lowercase())).await;
        let hooks = Hooks { port: 1, ..Hooks::start().await };
        let extra = json!({"failurePolicy": policy, "timeoutSeconds": 2});
        hooks.configure(target, "ValidatingWebhookConfiguration", &namespace, "nobody", extra).await;
        let all = format!("/api/v1/namespaces/{namespace}/configmaps");
        let answer = target.post(&all, config_map("one", json!({}))).await;
        assert_eq!(answer.code, code, "{answer:?}");
        if code == 500 {
            let start = "Internal error occurred: failed calling webhook \"nobody.example.com\": failed to call webhook: Post \"https://";
            assert!(answer.message().starts_with(start), "{answer:?}");
            assert_eq!(answer.refusal(), (500, "InternalError"));
        }
    }
}

pub(crate) async fn webhooks_are_asked_about_what_they_want(target: &Target) {
    let namespace = target.namespace("asked").await;
    let hooks = Hooks::start().await;
    let rules =
        json!([{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["*"]}]);
    let extra = json!({"rules": rules, "objectSelector": {"matchExpressions": [{"key": "skip", "operator": "DoesNotExist"}]}});
    hooks.configure(target, "ValidatingWebhookConfiguration", &namespace, "watch", extra).await;
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    target.post(&all, config_map("one", json!({"a": "1"}))).await.ok();
    target.merge(&format!("{all}/one"), json!({"data": {"a": "2"}})).await.ok();
    target.delete(&format!("{all}/one")).await.ok();
    let mut skipped = config_map("two", json!({}));
    skipped["metadata"]["labels"] = json!({"skip": ""});
    target.post(&all, skipped).await.ok();
    let asked = hooks.asked.lock().unwrap().clone();
    let short = |request: &Value| {
        let data = |object: &Value| object["data"]["a"].as_str().unwrap_or("-").to_owned();
        let text = |field: &str| request[field].as_str().unwrap_or("-").to_owned();
        (text("operation"), text("name"), data(&request["oldObject"]), data(&request["object"]))
    };
    let asked_short: Vec<_> = asked.iter().map(short).collect();
    let of = |words: [&str; 4]| {
        (words[0].to_owned(), words[1].to_owned(), words[2].to_owned(), words[3].to_owned())
    };
    assert_eq!(
        asked_short,
        [of(["CREATE", "one", "-", "1"]), of(["UPDATE", "one", "1", "2"]), of(["DELETE", "one", "2", "-"])]
    );
    let first = &asked[0];
    assert_eq!(first["resource"], json!({"group": "", "version": "v1", "resource": "configmaps"}));
    assert_eq!((first["namespace"].as_str(), first["dryRun"].as_bool()), (Some("asked"), Some(false)));
    assert!(first["userInfo"]["groups"].as_array().unwrap().contains(&json!("system:masters")), "{first}");
    assert_eq!(first["object"]["kind"], "ConfigMap");
}
