//! docs/install.md does what it says: its command blocks are run, in their order, by a shell.
//!
//! helm and kubectl are real, and their cluster is the API double. What a cluster or a machine would have to do is done by
//! small scripts in front of them: there are no nodes, so `kubectl exec` runs the command beside an agent of this machine,
//! a rollout and the end of pods are only asked about, helm's releases (kept in a form that the double does not understand)
//! are applied by kubectl, and registries, other hosts and systemd are not reached.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
};

use apidouble::{Cluster, Kind, Login, Server, User};
use balancing_tests::{
    chart::{file, tool},
    process::{Answer, Host, cluster::put, program, unconfigure, web},
};
use serde_json::{Value, json};

/// The page's code blocks, with their languages.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut fences = page.split("\n```");
    let mut blocks = Vec::new();
    fences.next();
    while let (Some(block), Some(_)) = (fences.next(), fences.next()) {
        let (language, text) = block.split_once('\n').unwrap();
        blocks.push((language.to_owned(), text.to_owned()));
    }
    blocks
}

fn script(directory: &Path, name: &str, text: &str) {
    let path = directory.join(name);
    fs::write(&path, format!("#!/bin/bash -eu\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_pages_commands_do_what_it_says() {
    let host = Host::new("install").unwrap();
    let cluster = Cluster::new();
    for (kind, plural) in [
        ("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
        ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"),
    ] {
        cluster.register(Kind::new("admissionregistration.k8s.io/v1", kind, plural).cluster_wide());
    }
    for name in ["default", "kube-system"] {
        cluster.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).unwrap();
    }
    for name in ["n1", "worker-1"] {
        cluster.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})).unwrap();
    }
    let proxy = json!({"name": "kube-proxy", "namespace": "kube-system"});
    cluster
        .put(json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": proxy, "spec": {}}))
        .unwrap();
    put(&cluster, &web::manifest("web", 10, &[1])).unwrap();
    put(&cluster, &web::manifest("kubernetes", 1, &[2]).replace("http", "https")).unwrap();
    cluster.accounts().allow_token("admin", User::administrator());
    let server = Server::tls(&cluster).unwrap();
    let kubeconfig = host.kubeconfig(&server, &Login::Token("admin".into())).unwrap();
    let agent = host.following(&kubeconfig, &[]).unwrap();

    let place = tempfile::tempdir().unwrap();
    let place = place.path();
    for name in ["charts", "docs"] {
        symlink(file(name).canonicalize().unwrap(), place.join(name)).unwrap();
    }
    for (directory, files) in
        [("deploy", &["balancing.yaml", "clean.yaml", "crds.yaml", "balancing.service"][..])]
    {
        fs::create_dir(place.join(directory)).unwrap();
        for name in files {
            fs::copy(file(directory).join(name), place.join(directory).join(name)).unwrap();
        }
    }
    let tools = place.join("tools");
    fs::create_dir(&tools).unwrap();
    let (kubectl, helm) = (tool("kubectl"), tool("helm"));
    script(
        &tools,
        "kubectl",
        &format!(
            r#"for argument; do if [ "$argument" = -- ]; then while [ "$1" != -- ]; do shift; done; shift; exec "$@"; fi; done
case "$*" in
*" rollout status "*) exec {0} --namespace kube-system get daemonset balancing-agent;;
*" wait --for delete "*) exec {0} --namespace kube-system get pods;;
"apply "*) exec {0} "$@" --validate=false;;
esac
exec {0} "$@""#,
            kubectl.display()
        ),
    );
    let text = format!(
        r#"case "$1" in
install) shift; {0} template --include-crds "$@" > release.yaml; {1} apply --server-side --validate=false -f release.yaml;;
upgrade) shift; {0} template "$@" > release.yaml; {1} apply --server-side --validate=false -f release.yaml;;
uninstall) {1} delete -f release.yaml;;
esac"#,
        helm.display(),
        kubectl.display()
    );
    script(&tools, "helm", &text);
    script(&tools, "balancing", &format!("exec {} \"$@\"", program().display()));
    script(&tools, "cargo", "mkdir -p target/image; touch target/image/balancing target/image/balancing.tar");
    script(&tools, "skopeo", "[ -e ${2#oci-archive:} ]");
    script(&tools, "scp", "[ -e $1 ]");
    // What the program over there would be asked.
    script(&tools, "ssh", "exec balancing \"$4\" --help");
    script(&tools, "sudo", "exec \"$@\"");
    script(&tools, "install", "[ -e $4 ]; echo \"installed $5\" >> did");
    let stop = format!("kill {}; while balancing status; do sleep 0.1; done", agent.pid());
    script(&tools, "systemctl", &format!("case $1 in enable) ;; disable) {stop};; *) exit 1;; esac"));
    // By docs/kubernetes.md.
    fs::write(place.join("balancing.conf"), "").unwrap();

    let page = fs::read_to_string(file("docs/install.md")).unwrap();
    let mut is_defined = false;
    for (language, text) in blocks(&page) {
        match language.as_str() {
            "yaml" => {
                let name = text.lines().next().unwrap().strip_prefix("# ").unwrap();
                fs::write(place.join(name), &text).unwrap();
            }
            "sh" => {
                let mut shell = Command::new("bash");
                unconfigure(&mut shell);
                let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
                shell.args(["-eux", "-c", &text]).current_dir(place).env("PATH", path).env("HOME", place);
                shell.env("KUBECONFIG", &kubeconfig);
                shell.env("BALANCING_BPFFS", host.pins()).env("BALANCING_SOCKET", host.socket());
                let answer = Answer::of(&mut shell).unwrap();
                assert_eq!(answer.code, Some(0), "{text}\n{}\n{}", answer.out, answer.err);
                let pods = cluster
                    .get("daemonsets", Some("kube-system"), "balancing-agent")
                    .map(|it| it["spec"]["template"]["spec"].clone());
                if text.contains("crds") || text.contains("helm install") {
                    is_defined = !text.contains("delete");
                }
                let definitions = cluster.list("customresourcedefinitions").unwrap();
                assert_eq!(definitions.len(), if is_defined { 2 } else { 0 }, "{text}");
                if text.contains("helm install") {
                    assert_eq!(pods.unwrap()["nodeSelector"], json!({"balancing": "canary"}));
                } else if text.contains("helm upgrade") && !text.contains("uninstall") {
                    assert_eq!(pods.unwrap()["nodeSelector"], json!(null));
                } else if text.contains("kubectl apply -f deploy/balancing.yaml") {
                    let image = pods.unwrap()["containers"][0]["image"].clone();
                    assert_eq!(image, "registry.corp.example/balancing:0.1.0");
                }
            }
            other => panic!("a block of {other:?}: nobody would run it"),
        }
    }
    // Nothing is left.
    assert!(!host.pins().exists());
    let kube_proxy = cluster.get("daemonsets", Some("kube-system"), "kube-proxy").unwrap();
    assert_eq!(kube_proxy["spec"]["template"]["spec"]["nodeSelector"], json!({}));
    cluster.remove("daemonsets", Some("kube-system"), "kube-proxy").unwrap();
    for resource in ["daemonsets", "configmaps", "clusterroles", "validatingadmissionpolicies"] {
        assert_eq!(cluster.list(resource).unwrap(), Vec::<Value>::new(), "{resource}");
    }
    for object in [cluster.get("nodes", None, "worker-1"), cluster.get("services", Some("default"), "web")] {
        let labels = object.unwrap()["metadata"]["labels"].to_string();
        assert!(!labels.contains("balancing"), "{labels}");
    }
    // The unit finds what was installed, and the agent what its file says.
    let unit = fs::read_to_string(place.join("deploy/balancing.service")).unwrap();
    let (_, start) = unit.split_once("ExecStart=").unwrap();
    let [program, "agent", "--config", config] =
        start.lines().next().unwrap().split(' ').collect::<Vec<_>>()[..]
    else {
        panic!("{start}");
    };
    let did = fs::read_to_string(place.join("did")).unwrap();
    assert!(did.contains(&format!("installed {program}\n")), "{did}");
    assert!(did.contains(&format!("installed {config}\n")), "{did}");
    let shown = host.balancing(&[
        "agent",
        "--print-config",
        "--config",
        &place.join("agent.yaml").display().to_string(),
    ]);
    assert!(shown.unwrap().succeeds().contains("/etc/balancing/balancing.conf"));
}
