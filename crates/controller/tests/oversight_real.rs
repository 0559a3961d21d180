//! The same with a real API server: what is written there must be what it takes.

#![allow(clippy::unwrap_used)]

mod stage;

use apidouble::{Real, User};
use serde_json::{Value, json};
use stage::*;

const POLICIES: &str = "/apis/balancing.elf.io/v1beta1/balancingpolicies";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices";
const PODS: &str = "/api/v1/namespaces/shop/pods";

struct World(Real);

impl World {
    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Option<Value> {
        self.0.call("root", method, path, body).ok()
    }

    /// Creates a pod, and what a kubelet says of it.
    fn put_pod(&self, number: usize) {
        let mut pod = pod(number, true);
        let status = json!({"status": pod["status"].take()});
        pod.as_object_mut().unwrap().remove("status");
        pod["spec"]["containers"] = json!([{"name": "c", "image": "i"}]);
        self.0.call("root", "POST", PODS, Some(&pod)).unwrap();
        self.set_status(number, &status);
    }

    fn set_status(&self, number: usize, status: &Value) {
        self.0.call("root", "PATCH", &format!("{PODS}/p{number}/status"), Some(status)).unwrap();
    }

    fn slices(&self) -> Vec<Value> {
        let list = self.call("GET", SLICES, None).unwrap_or_default();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    fn endpoints(&self) -> usize {
        self.slices().iter().map(|slice| slice["endpoints"].as_array().map_or(0, Vec::len)).sum()
    }

    fn status(&self) -> Value {
        self.call("GET", &format!("{POLICIES}/web"), None).unwrap_or_default()["status"].clone()
    }
}

/// Where `KUBEBUILDER_ASSETS` names a directory with `etcd` and `kube-apiserver` (docs/testing.md).
#[test]
fn a_real_api_server_takes_slices_statuses_and_the_lease() {
    let Some(assets) = Real::assets() else {
        println!("not tried with a real API server: KUBEBUILDER_ASSETS is not set");
        return;
    };
    let world = World(Real::start(&assets, &[("root", User::administrator())]).unwrap());
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    for crd in api::policy::crds() {
        world.0.call("root", "POST", definitions, Some(&serde_json::to_value(crd).unwrap())).unwrap();
    }
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    world.0.call("root", "POST", "/api/v1/namespaces", Some(&namespace)).unwrap();
    until("the definition", || world.call("GET", POLICIES, None).is_some());
    world.0.call("root", "POST", POLICIES, Some(&policy("web", "169.254.0.90"))).unwrap();
    (0..103).for_each(|number| world.put_pod(number));

    let controller = Running::start(&world.0.kubeconfig("root"));
    until("slices", || world.endpoints() == 103);
    assert_eq!(world.slices().len(), 2);
    until("a status", || world.status()["readyBackends"] == 103);
    let status = world.status();
    let conditions: Vec<_> = status["conditions"].as_array().unwrap().iter().collect();
    assert_eq!(conditions.len(), 3, "{status}");
    assert!(conditions.iter().all(|it| it["observedGeneration"] == 1 && it["reason"].is_string()));

    let versions = |world: &World| -> Vec<Value> {
        world.slices().iter().map(|slice| slice["metadata"]["resourceVersion"].clone()).collect()
    };
    let before = versions(&world);
    world.set_status(7, &json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}));
    until("the count", || world.status()["readyBackends"] == 102);
    let after = versions(&world);
    assert_eq!(before.iter().filter(|version| !after.contains(version)).count(), 1);
    // Nothing is written again without a reason.
    let resting = |world: &World| (versions(world), world.status());
    let rested = resting(&world);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(resting(&world), rested);

    // Somebody empties a slice, deletes the other one, and writes to the status.
    let slices = world.slices();
    let path = |slice: &Value| format!("{SLICES}/{}", slice["metadata"]["name"].as_str().unwrap());
    world.0.call("root", "PATCH", &path(&slices[0]), Some(&json!({"endpoints": []}))).unwrap();
    world.0.call("root", "DELETE", &path(&slices[1]), None).unwrap();
    let wrong = json!({"status": {"backends": 1}});
    world.0.call("root", "PATCH", &format!("{POLICIES}/web/status"), Some(&wrong)).unwrap();
    until("slices as they should be", || world.endpoints() == 103);
    until("the status as it should be", || world.status()["backends"] == 103);

    world.0.call("root", "DELETE", &format!("{POLICIES}/web"), None).unwrap();
    until("the end", || world.slices().is_empty());
    controller.stop();
    let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{LEASE}");
    let lease = world.0.call("root", "GET", &lease, None).unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "", "it is given up: {lease}");
}
