//! The controller as a process, with the roles and webhooks of deploy/controller.yaml, asked by a real API server. Where
//! `KUBEBUILDER_ASSETS` names a directory with `etcd` and `kube-apiserver` (docs/testing.md).

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use apidouble::{Real, User};
use balancing_tests::process::{Answer, PATIENCE, program, unconfigure};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::wait;

const POLICIES: &str = "/apis/balancing.elf.io/v1beta1/balancingpolicies";

struct World {
    real: Real,
    directory: TempDir,
    port: u16,
}

/// Ends with the value.
struct Controller(Child);

impl Drop for Controller {
    fn drop(&mut self) {
        // Either it ends now or it has ended before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl World {
    fn new() -> Option<Self> {
        let Some(assets) = Real::assets() else {
            println!("not tried with a real API server: KUBEBUILDER_ASSETS is not set");
            return None;
        };
        let account = User::service_account("kube-system", "balancing-controller");
        let real = Real::start(&assets, &[("root", User::administrator()), ("controller", account)]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("kubeconfig"), real.kubeconfig("controller")).unwrap();
        let port = TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port();
        let world = Self { real, directory, port };
        let printed = Answer::of(Command::new(program()).args(["crd", "-o", "json"])).unwrap();
        let list: Value = serde_json::from_str(printed.succeeds()).unwrap();
        list["items"].as_array().unwrap().iter().for_each(|crd| world.put(crd));
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/controller.yaml");
        let documents: Vec<Value> = serde_saphyr::from_multiple(&fs::read_to_string(path).unwrap()).unwrap();
        documents.iter().for_each(|document| world.put(document));
        wait::until(PATIENCE, "the definitions", || world.call("GET", POLICIES, None).is_ok());
        Some(world)
    }

    fn call(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, String> {
        self.real.call("root", method, path, body.as_ref()).map_err(|error| format!("{error:#}"))
    }

    /// Creates an object. There is no network of services here: webhooks are at an address.
    fn put(&self, object: &Value) {
        let mut object = object.clone();
        for webhook in object.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten() {
            let path = webhook["clientConfig"]["service"]["path"].as_str().unwrap();
            let url = format!("https://127.0.0.1:{}{path}", self.port);
            webhook["clientConfig"] = json!({"url": url});
        }
        let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
        let root = if version == "v1" { "/api/v1".into() } else { format!("/apis/{version}") };
        let namespace = object["metadata"]["namespace"].as_str();
        let namespace = namespace.map_or(String::new(), |namespace| format!("/namespaces/{namespace}"));
        let plural = format!("{}s", kind.to_lowercase());
        let path = format!("{root}{namespace}/{plural}?fieldValidation=Strict");
        let created = || match self.call("POST", &path, Some(object.clone())) {
            Err(error) if error.contains("404") => false,
            outcome => {
                outcome.unwrap();
                true
            }
        };
        // Namespaces are made a moment after the server is ready.
        wait::until(PATIENCE, "the namespace", created);
    }

    fn controller(&self) -> Controller {
        let mut command = Command::new(program());
        unconfigure(&mut command);
        let log = fs::File::create(self.directory.path().join("log")).unwrap();
        let port = self.port.to_string();
        command
            .args(["controller", "--health-port=0", "--metrics-port=0", "--certificate-name=127.0.0.1"])
            .args(["--webhook-port", &port, "--kubeconfig"])
            .arg(self.directory.path().join("kubeconfig"))
            .stdin(Stdio::null())
            .stderr(log);
        let controller = Controller(command.spawn().unwrap());
        wait::until(PATIENCE, "API servers to be told", || {
            let configuration =
                "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/balancing";
            let configuration = self.call("GET", configuration, None).unwrap();
            configuration["webhooks"][0]["clientConfig"]["caBundle"].is_string()
        });
        controller
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    fn create(&self, name: &str, port: &str) -> Result<Value, String> {
        self.call("POST", POLICIES, Some(policy(name, port)))
    }

    fn delete(&self, name: &str) {
        self.call("DELETE", &format!("{POLICIES}/{name}"), None).unwrap();
    }
}

fn policy(name: &str, port: &str) -> Value {
    let ports = json!([{"port": port, "protocol": "TCP"}]);
    json!({
        "apiVersion": "balancing.elf.io/v1beta1", "kind": "BalancingPolicy", "metadata": {"name": name},
        "spec": {
            "frontend": {"addressMatcher": {"ip": "10.0.0.1", "toPorts": ports}},
            "backend": {"addressEndpoint": {"addresses": ["192.0.2.1"], "toPorts": ports}},
        },
    })
}

#[test]
fn a_real_api_server_asks_the_webhooks() {
    let Some(world) = World::new() else { return };
    let controller = world.controller();
    wait::until(PATIENCE, "a policy to be let in", || world.create("a", "80").is_ok());
    let created = world.call("GET", &format!("{POLICIES}/a"), None).unwrap();
    let id = created["metadata"]["annotations"]["balancing.elf.io/serviceId"].as_str();
    assert!(id.is_some_and(|id| id.parse::<u32>().is_ok()), "{created}\n{}", world.log());
    let refused = |name: &str, port: &str, words: &str| {
        let error = world.create(name, port).unwrap_err();
        assert!(error.contains(words), "{error}\n{}", world.log());
    };
    refused("b", "80", "10.0.0.1 port 80/TCP is what BalancingPolicy a is for already");
    // What the definitions say comes first.
    refused("b", "0", "from 1 to 65535");
    let change = json!({"spec": {"backend": {"addressEndpoint": {"addresses": ["2001:db8::1"]}}}});
    let error = world.call("PATCH", &format!("{POLICIES}/a"), Some(change)).unwrap_err();
    assert!(error.contains("none of the addresses is of the family"), "{error}");
    let change = json!({"metadata": {"annotations": {"balancing.elf.io/serviceId": "many"}}});
    let error = world.call("PATCH", &format!("{POLICIES}/a"), Some(change)).unwrap_err();
    assert!(error.contains("must be a number from 0 to 4294967295"), "{error}");
    world.delete("a");
    wait::until(PATIENCE, "the port to be free", || world.create("b", "80").is_ok());
    let mut unnamed = policy("", "81");
    unnamed["metadata"] = json!({"generateName": "made-"});
    let made = world.call("POST", POLICIES, Some(unnamed)).unwrap();
    assert!(made["metadata"]["annotations"]["balancing.elf.io/serviceId"].is_string(), "{made}");
    drop(controller);
}

#[test]
fn without_a_controller_rules_hold_and_policies_can_go() {
    let Some(world) = World::new() else { return };
    let controller = world.controller();
    for (name, port) in [("a", "80"), ("b", "81")] {
        let mut policy = policy(name, port);
        policy["metadata"]["finalizers"] = json!(["example.com/wait"]);
        let created = || world.call("POST", POLICIES, Some(policy.clone())).is_ok();
        wait::until(PATIENCE, "a policy to be let in", created);
    }
    drop(controller);
    let error = world.create("c", "82").unwrap_err();
    assert!(error.contains("failed calling webhook \\\"validate.balancing.elf.io"), "{error}");
    let error = world.create("c", "0").unwrap_err();
    assert!(error.contains("from 1 to 65535"), "{error}");
    // Deleted, and let go by who holds it.
    world.delete("a");
    world.call("PATCH", &format!("{POLICIES}/a"), Some(json!({"metadata": {"finalizers": null}}))).unwrap();
    world.call("GET", &format!("{POLICIES}/a"), None).unwrap_err();
    // Let go first, labelled, and deleted.
    let change = json!({"metadata": {"finalizers": null, "labels": {"a": "b"}}});
    world.call("PATCH", &format!("{POLICIES}/b"), Some(change)).unwrap();
    let change = json!({"spec": {"config": {"qosLimit": 7}}});
    let error = world.call("PATCH", &format!("{POLICIES}/b"), Some(change)).unwrap_err();
    assert!(error.contains("failed calling webhook"), "{error}");
    world.delete("b");
    world.call("GET", &format!("{POLICIES}/b"), None).unwrap_err();
    // The next one goes on with the same certificate.
    let controller = world.controller();
    wait::until(PATIENCE, "a policy to be let in", || world.create("c", "80").is_ok());
    assert!(!world.log().contains("a new certificate is in force"), "{}", world.log());
    drop(controller);
}
