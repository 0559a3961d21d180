//! The Helm chart: what it makes of each value, what it refuses, and that what it makes is what Kubernetes, the agent and
//! the documentation mean by it. deploy/*.yaml and charts/balancing/crds are made here: `UPDATE_DOCS=1 cargo test -p balancing-tests --test chart`.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fs, process::Command};

use agent::config::{SETTINGS, Setting};
use apidouble::{Real, User};
use balancing_tests::{
    chart::{IMAGE, file, objects, one, render, template, tool},
    process::{Answer, program, unconfigure},
};
use k8s_openapi::api::{
    admissionregistration::v1::{
        MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
        ValidatingWebhookConfiguration,
    },
    apps::v1::{DaemonSet, Deployment},
    core::v1::{ConfigMap, Service, ServiceAccount},
    policy::v1::PodDisruptionBudget,
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// A value other than the default for every one that there is; the agent's settings come after them.
const CHANGED: &[&str] = &[
    IMAGE,
    "image.tag=canary",
    "image.pullPolicy=Always",
    r#"imagePullSecrets=[{"name": "registry"}]"#,
    "feature.apiServerHost=10.0.0.1",
    "feature.redirectQosLimit=1000",
    "log=debug",
    r#"nodeSelector={"balancing": "canary"}"#,
    r#"affinity={"nodeAffinity": {}}"#,
    "tolerations=[]",
    "priorityClassName=canary",
    r#"maxUnavailable="10%""#,
    r#"resources={"limits": {"memory": "1Gi"}}"#,
    r#"podAnnotations={"a": "b"}"#,
    "controller.replicas=2",
    "monitoring.dashboard=true",
    "monitoring.rules=true",
    "monitoring.podMonitors=true",
    "admissionPolicy=false",
    "clean=true",
];

/// The agent's settings.
const SET: &[&str] = &[
    r#"config.apiServer=["https://10.0.0.1:6443", "https://10.0.0.2:6443"]"#,
    "config.cgroupRoot=/host/sys/fs/cgroup/kubepods.slice",
    "config.serviceProxyName=balancing",
    r#"config.nodePortAddresses=["10.0.0.0/8", "localhost"]"#,
    r#"config.excludeCgroup=["system.slice"]"#,
    "config.events=sampled=100",
    r#"config.eventLog=["stdout", "socket:/run/balancing/events.sock"]"#,
    "config.eventOtlp=http://10.0.0.9:4318",
    "config.eventLogSize=1MiB",
    "config.eventLogKeep=2",
    r#"config.eventSocketMode="0660""#,
    "config.eventRate=100",
    "config.eventBurst=1000",
    "config.eventMemory=100",
    "config.auditInterval=1m",
    "config.resetTcp=true",
    "config.replaceKubeProxy=true",
    "config.healthPort=15810",
    "config.metricsPort=0",
    "config.metricsServices=50",
    "config.publish=false",
    "config.maxServices=4194304",
    "config.maxBackends=16777216",
    "config.redirectQosLimit=1000000",
];

/// Settings that are the container's own (what it is given, and what is mounted where), and those of machines that are no nodes.
const FIXED: [&str; 8] = [
    "manifests",
    "kubeconfig",
    "nodeName",
    "bpffs",
    "socket",
    "outsideCluster",
    "outsideExternal",
    "outsideLabel",
];

/// The paths of all leaves.
fn leaves(values: &Value, path: &str, found: &mut BTreeSet<String>) {
    match values.as_object().filter(|map| !map.is_empty()) {
        Some(map) if path != "resources" => {
            for (key, value) in map {
                leaves(value, &if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, found);
            }
        }
        _ => {
            found.insert(path.to_owned());
        }
    }
}

#[test]
fn every_value_does_something() {
    let defaults: Value =
        serde_saphyr::from_str(&fs::read_to_string(file("charts/balancing/values.yaml")).unwrap()).unwrap();
    let mut known = BTreeSet::new();
    leaves(&defaults, "", &mut known);
    // These can only be true. The port belongs to the host.
    for without in ["feature.enableIPv4", "feature.enableIPv6", "feature.apiServerPort", "config"] {
        assert!(known.remove(without), "{without} is not there any more");
    }
    let name = |value: &&str| value.split_once('=').unwrap().0.to_owned();
    assert_eq!(known, CHANGED.iter().map(name).collect());

    let usual = template(&[IMAGE]).unwrap();
    for value in &CHANGED[1..] {
        assert_ne!(template(&[IMAGE, value]).unwrap(), usual, "{value}");
    }
    let port = template(&[IMAGE, "feature.apiServerHost=fd00::1", "feature.apiServerPort=443"]).unwrap();
    assert!(port.contains("https://[fd00::1]:443"), "{port}");
}

#[test]
fn every_setting_of_the_agent_can_be_given_and_reaches_it() {
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(file("charts/balancing/values.schema.json")).unwrap())
            .unwrap();
    let known: BTreeSet<_> =
        schema["properties"]["config"]["properties"].as_object().unwrap().keys().cloned().collect();
    let settings: BTreeSet<_> =
        SETTINGS.iter().map(Setting::key).filter(|key| !FIXED.contains(&key.as_str())).collect();
    assert_eq!(known, settings, "values.schema.json, and the settings of the agent");
    let set: BTreeSet<_> = SET.iter().map(|value| value[7..].split_once('=').unwrap().0.to_owned()).collect();
    assert_eq!(set, settings, "SET of this test, and the settings of the agent");

    let objects = render(&[&[IMAGE], SET].concat()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.yaml");
    fs::write(&path, one(&objects, "ConfigMap")["data"]["agent.yaml"].as_str().unwrap()).unwrap();
    let container = &one(&objects, "DaemonSet")["spec"]["template"]["spec"]["containers"][0];
    let mut agent = Command::new(program());
    unconfigure(&mut agent);
    agent.args(container["args"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()));
    let answer =
        Answer::of(agent.args(["--print-config", "-o", "json"]).env("BALANCING_CONFIG", &path)).unwrap();
    let shown: Vec<Value> = serde_json::from_str(answer.succeeds()).unwrap();
    for value in SET {
        let (key, text) = value[7..].split_once('=').unwrap();
        let wanted = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
        let row = shown.iter().find(|row| row["key"] == key).unwrap();
        assert_eq!((&row["value"], &row["from"]["kind"]), (&wanted, &json!("file")), "{row}");
    }
    // What the container's environment says are settings, too.
    let variables: BTreeSet<_> = SETTINGS.iter().map(Setting::variable).collect();
    for variable in container["env"].as_array().unwrap() {
        let name = variable["name"].as_str().unwrap();
        let others = [agent::config::FILE_VARIABLE, "BALANCING_LOG"];
        assert!(variables.contains(name) || others.contains(&name), "{name}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (values, said) in [
        (&[][..], "image.repository: say where your image is"),
        (&[IMAGE, "imgae.tag=1"], "additional properties 'imgae' not allowed"),
        (&[IMAGE, "config.maxService=1"], "additional properties 'maxService' not allowed"),
        (&[IMAGE, "config.kubeconfig=/x"], "additional properties 'kubeconfig' not allowed"),
        (&[IMAGE, "feature.redirectQosLimit=-1"], "'/feature/redirectQosLimit'"),
        (&[IMAGE, "feature.redirectQosLimit=1", "config.redirectQosLimit=2"], "say the same thing"),
        (&[IMAGE, "feature.enableIPv4=false"], "'/feature/enableIPv4': value must be true"),
        (&[IMAGE, "feature.enableIPv6=false"], "'/feature/enableIPv6': value must be true"),
        (&[IMAGE, "feature.apiServerHost=https://10.0.0.1"], "'/feature/apiServerHost'"),
        (&[IMAGE, "feature.apiServerPort=0"], "'/feature/apiServerPort'"),
        (
            &[IMAGE, "feature.apiServerHost=10.0.0.1", r#"config.apiServer=["https://10.0.0.2"]"#],
            "say the same thing",
        ),
        (&[IMAGE, "config.events=loud"], "'/config/events'"),
        (&[IMAGE, r#"config.eventLog=["file:/var/log/events"]"#], "'/config/eventLog/0'"),
        (&[IMAGE, "config.auditInterval=30"], "'/config/auditInterval'"),
        (&[IMAGE, "config.maxServices=0"], "'/config/maxServices'"),
        (&[IMAGE, "config.resetTcp=yes"], "'/config/resetTcp'"),
        (&[IMAGE, "config.healthPort=0"], "'/config/healthPort'"),
        (&[IMAGE, "config.replaceKubeProxy=true"], "give feature.apiServerHost"),
        (&[IMAGE, "config.cgroupRoot=/sys/fs/cgroup"], "'/config/cgroupRoot'"),
        (&[IMAGE, "maxUnavailable=0"], "'/maxUnavailable'"),
        (&[IMAGE, "controller.replicas=-1"], "'/controller/replicas'"),
        (&[IMAGE, "image.pullPolicy=Sometimes"], "'/image/pullPolicy'"),
    ] {
        let error = template(values).expect_err(said).to_string();
        assert!(error.contains(said), "{values:?}: {error}");
    }
}

/// Fields that Kubernetes does not know would be left out by the types of its API.
fn is_understood<T: DeserializeOwned + Serialize>(object: &Value) {
    let typed: T = serde_json::from_value(object.clone()).unwrap();
    let mut typed = serde_json::to_value(typed).unwrap();
    // Rules of roles and lists that are empty are written out.
    if typed["status"] == json!({}) {
        typed.as_object_mut().unwrap().remove("status");
    }
    assert_eq!(&typed, object);
}

#[test]
fn kubernetes_knows_every_field() {
    for values in [&[IMAGE][..], CHANGED, &[&[IMAGE], SET].concat()] {
        let objects = render(values).unwrap();
        for object in &objects {
            match object["kind"].as_str().unwrap() {
                "ServiceAccount" => is_understood::<ServiceAccount>(object),
                "ConfigMap" => is_understood::<ConfigMap>(object),
                "ClusterRole" => is_understood::<ClusterRole>(object),
                "ClusterRoleBinding" => is_understood::<ClusterRoleBinding>(object),
                "DaemonSet" => is_understood::<DaemonSet>(object),
                "ValidatingAdmissionPolicy" => is_understood::<ValidatingAdmissionPolicy>(object),
                "ValidatingAdmissionPolicyBinding" => {
                    is_understood::<ValidatingAdmissionPolicyBinding>(object)
                }
                "Role" => is_understood::<Role>(object),
                "RoleBinding" => is_understood::<RoleBinding>(object),
                "Service" => is_understood::<Service>(object),
                "Deployment" => is_understood::<Deployment>(object),
                "PodDisruptionBudget" => is_understood::<PodDisruptionBudget>(object),
                "MutatingWebhookConfiguration" => is_understood::<MutatingWebhookConfiguration>(object),
                "ValidatingWebhookConfiguration" => is_understood::<ValidatingWebhookConfiguration>(object),
                // The operator's definitions; tests/monitoring.rs looks at what is in them.
                "PrometheusRule" | "PodMonitor" => {}
                kind => panic!("{kind}: add it here"),
            }
        }
        let of_agents = if values.contains(&"admissionPolicy=false") { 5 } else { 7 };
        let of_controllers = if values.contains(&"controller.replicas=2") { 10 } else { 0 };
        let of_monitoring = if values.contains(&"monitoring.rules=true") { 4 } else { 0 };
        assert_eq!(objects.len(), of_agents + of_controllers + of_monitoring);
    }
}

#[test]
fn a_change_of_the_configuration_is_a_new_agent() {
    let template = |values: &[&str]| one(&render(values).unwrap(), "DaemonSet")["spec"]["template"].clone();
    let usual = template(&[IMAGE]);
    assert_eq!(template(&[IMAGE]), usual);
    assert_ne!(template(&[IMAGE, "config.events=all"]), usual);
    assert_ne!(template(&[IMAGE, "feature.apiServerHost=10.0.0.1"]), usual);
    assert_eq!(template(&[IMAGE, "maxUnavailable=5"]), usual);
}

/// Of deploy/rbac.yaml and deploy/own-node-only.yaml, of which other tests show that they are what the agent needs and may.
#[test]
fn the_rights_are_those_of_the_manifests() {
    let text = |path| fs::read_to_string(file(path)).unwrap();
    let manifests =
        objects(&format!("{}\n---\n{}", text("deploy/rbac.yaml"), text("deploy/own-node-only.yaml")))
            .unwrap();
    let chart = render(&[IMAGE]).unwrap();
    let kinds = [
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ];
    for kind in kinds {
        let mut charts = one(&chart, kind).clone();
        charts["metadata"].as_object_mut().unwrap().remove("labels");
        assert!(manifests.contains(&charts), "{charts:#}");
    }
}

/// Of deploy/controller.yaml, of which other tests show that it is what a controller needs.
#[test]
fn the_controller_is_that_of_the_manifests() {
    let manifests = objects(&fs::read_to_string(file("deploy/controller.yaml")).unwrap()).unwrap();
    let without = render(&[IMAGE]).unwrap();
    let mut chart = render(&[IMAGE, "controller.replicas=2"]).unwrap();
    chart.retain(|object| !without.contains(object));
    let is_same = |object: &Value| {
        let mut object = object.clone();
        // What is said of the image is the cluster's.
        if object["kind"] == "Deployment" {
            let container = &mut object["spec"]["template"]["spec"]["containers"][0];
            container.as_object_mut().unwrap().remove("imagePullPolicy");
        }
        manifests.contains(&object)
    };
    for object in &chart {
        assert!(is_same(object), "{object:#}");
    }
    assert_eq!(chart.len(), manifests.len());
}

/// docs/operations.md names them; `CAP_SYS_ADMIN` stands for two of those.
#[test]
fn the_capabilities_are_the_least_that_the_documentation_says() {
    let text = fs::read_to_string(file("docs/operations.md")).unwrap();
    let (_, section) = text.split_once("## Least rights").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows =
        section.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |")).map(|(cell, _)| cell);
    let named = rows.flat_map(|cell| cell.split('`')).filter_map(|word| word.strip_prefix("CAP_"));
    let least: BTreeSet<_> =
        named.filter(|name| !["BPF", "PERFMON"].contains(name)).map(str::to_owned).collect();
    assert_eq!(least.len(), 3, "{section}");
    let objects = render(&[IMAGE]).unwrap();
    let context = &one(&objects, "DaemonSet")["spec"]["template"]["spec"]["containers"][0]["securityContext"];
    let added: BTreeSet<String> = serde_json::from_value(context["capabilities"]["add"].clone()).unwrap();
    assert_eq!(added, least);
}

/// A file that is made here.
#[track_caller]
fn is_made(path: &str, wanted: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all(file(path).parent().unwrap()).unwrap();
        fs::write(file(path), wanted).unwrap();
    } else {
        let found = fs::read_to_string(file(path)).unwrap_or_default();
        assert!(
            found == wanted,
            "{path}: `UPDATE_DOCS=1 cargo test -p balancing-tests --test chart` writes it anew"
        );
    }
}

/// Helm takes what is in `crds` as it is.
#[test]
fn the_definitions_of_policies_are_those_of_the_program() {
    let answer = Answer::of(Command::new(program()).arg("crd")).unwrap();
    let printed = answer.succeeds();
    let head = "# Made by a test, from `balancing crd`.\n";
    is_made("deploy/crds.yaml", &format!("{head}{printed}"));
    let documents: Vec<&str> = printed.split("---\n").filter(|text| !text.is_empty()).collect();
    assert_eq!(documents.len(), 2);
    for document in documents {
        let definition = &objects(document).unwrap()[0];
        assert_eq!(definition["kind"], "CustomResourceDefinition");
        let plural = definition["spec"]["names"]["plural"].as_str().unwrap();
        is_made(&format!("charts/balancing/crds/{plural}.yaml"), &format!("{head}{document}"));
    }
    let files = fs::read_dir(file("charts/balancing/crds")).unwrap();
    assert_eq!(files.count(), 2, "nothing else is installed with them");
}

/// For those without Helm.
#[test]
fn the_plain_manifests_are_what_the_chart_makes() {
    for (path, head, values) in [
        (
            "deploy/balancing.yaml",
            "# An agent on each node, for `kubectl apply`: what the chart makes of its default values. Say where your image is\n\
             # first (docs/install.md). Made by a test, from charts/balancing.\n",
            &[IMAGE][..],
        ),
        (
            "deploy/clean.yaml",
            "# In place of balancing.yaml: removes all of Balancing from each node, before `kubectl delete` (docs/install.md).\n\
             # Made by a test, from charts/balancing.\n",
            &[IMAGE, "clean=true"],
        ),
    ] {
        is_made(path, &format!("{head}{}", template(values).unwrap()));
    }
}

/// A cluster where `KUBEBUILDER_ASSETS` says that there is one, and kubectl for its administrator.
struct Kubectl {
    _server: Real,
    directory: tempfile::TempDir,
}

impl Kubectl {
    fn new() -> Option<Self> {
        let Some(assets) = Real::assets() else {
            println!("KUBEBUILDER_ASSETS names no kube-apiserver: nothing was compared with a real one");
            return None;
        };
        let server = Real::start(&assets, &[("admin", User::administrator())]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("admin"), server.kubeconfig("admin")).unwrap();
        Some(Self { _server: server, directory })
    }

    fn run(&self, arguments: &[&str]) -> Answer {
        self.program("kubectl", arguments)
    }

    fn program(&self, name: &str, arguments: &[&str]) -> Answer {
        let mut program = Command::new(tool(name));
        program.env("KUBECONFIG", self.directory.path().join("admin")).env("HOME", self.directory.path());
        Answer::of(program.current_dir(file("")).args(arguments)).unwrap()
    }

    fn apply(&self, manifests: &str, how: &[&str]) -> Answer {
        let path = self.directory.path().join("manifests.yaml");
        fs::write(&path, manifests).unwrap();
        self.run(&[&["apply", "--server-side", "-f", path.to_str().unwrap()], how].concat())
    }
}

#[test]
fn a_real_api_server_takes_what_the_chart_makes() {
    let Some(kubectl) = Kubectl::new() else { return };
    for values in [&[IMAGE][..], CHANGED, &[&[IMAGE], SET].concat()] {
        let answer = kubectl.apply(&template(values).unwrap(), &["--dry-run=server", "--validate=strict"]);
        answer.succeeds();
        assert!(!answer.err.contains("Warning"), "{answer:?}");
    }
    // By Helm, as docs/install.md has it.
    let kube_system = ["--namespace", "kube-system"];
    let helm = |verb: &str, values: &[&str]| {
        let chart = [verb, "balancing", "charts/balancing", "--set", IMAGE];
        kubectl.program("helm", &[&chart[..], &kube_system, values].concat()).succeeds().to_owned()
    };
    let notes = helm("install", &["--set", "nodeSelector.balancing=canary"]);
    assert!(notes.contains("exec daemonset/balancing-agent -- balancing status"), "{notes}");
    assert!(notes.contains("Give feature.apiServerHost"), "{notes}");
    helm("upgrade", &["--set", "feature.apiServerHost=10.0.0.1", "--set", "config.replaceKubeProxy=true"]);
    // Helm has made the definitions of policies, and leaves them to kubectl from then on.
    let definitions = ["-f", "charts/balancing/crds"];
    let upgrade = ["apply", "--server-side", "--force-conflicts"];
    kubectl.run(&[&upgrade[..], &definitions].concat()).succeeds();
    let notes = helm("upgrade", &["--set", "nodeSelector=null", "--set", "clean=true"]);
    assert!(notes.contains("Each node is being cleaned"), "{notes}");
    kubectl.program("helm", &[&["uninstall", "balancing"][..], &kube_system].concat()).succeeds();
    kubectl.run(&[&["delete"][..], &definitions].concat()).succeeds();
    // And without.
    kubectl.run(&[&upgrade[..], &["-f", "deploy/crds.yaml"]].concat()).succeeds();
    for arguments in [
        ["apply", "-f", "deploy/balancing.yaml"],
        ["apply", "-f", "deploy/clean.yaml"],
        ["delete", "-f", "deploy/clean.yaml"],
    ] {
        kubectl.run(&arguments).succeeds();
    }
    kubectl
        .run(&["get", "services", "--all-namespaces", "--field-selector", "spec.type!=ClusterIP"])
        .succeeds();
    let left = kubectl.run(&[
        "get",
        "all,configmaps,validatingadmissionpolicies",
        "-A",
        "-l",
        "app.kubernetes.io/name=balancing",
    ]);
    assert!(left.out.is_empty() && left.err.contains("No resources found"), "{left:?}");
}
