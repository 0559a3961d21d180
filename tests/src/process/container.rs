//! A container as a runtime would make it of the chart's DaemonSet: a read-only root with what is mounted there, a cgroup
//! namespace, the capabilities it says and no others.
//!
//! The machine's own libraries and tools are in there too, since the tested program is not linked statically. Host paths are
//! this machine's: its cgroups, but its own bpffs and directory for sockets.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::Value;
use testkit::Cgroup;

use super::{Host, unconfigure};
use crate::chart::one;

/// Before anything is mounted for the pod. Arguments: the new root, and the program.
const ROOT: &str = r#"
mount -t tmpfs container "$1"
cd "$1"
mkdir -p proc sys dev usr etc
for link in /bin /sbin /lib /lib32 /lib64; do
    if [ -L $link ]; then cp -a $link .; elif [ -d $link ]; then mkdir .$link; mount --rbind $link .$link; fi
done
mount --rbind /usr usr
mount --rbind /proc proc
mount --bind /proc/sys proc/sys; mount -o remount,bind,ro proc/sys
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
touch dev/null; mount --bind /dev/null dev/null
cp "$2" balancing
"#;

/// What a container is made of.
pub struct Container<'a> {
    /// The machine it is on.
    pub host: &'a Host,
    /// Its cgroup, in which it sees nothing of the others.
    pub cgroup: &'a Cgroup,
    /// Rendered by the chart.
    pub objects: &'a [Value],
    /// Where its root is mounted, and what a kubelet would make: any directory.
    pub directory: &'a Path,
    /// A pod's service account, as files; and where its API server is.
    pub account: &'a [(&'a str, String)],
    /// Host and port.
    pub api_server: (&'a str, u16),
}

impl Container<'_> {
    /// The command that starts the DaemonSet's container with `program` as what its image has.
    ///
    /// # Errors
    /// Files can't be written, or the DaemonSet has something that this knows nothing of.
    pub fn command(&self, program: &Path) -> Result<Command> {
        let pod = &one(self.objects, "DaemonSet")["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let root = self.directory.join("root");
        fs::create_dir_all(&root).context("a directory for the root")?;

        let mut script = format!("set -e\necho $$ > {}/cgroup.procs\n", self.cgroup.path().display());
        script += r#"exec unshare --mount --propagation private --cgroup sh -c '"#;
        script += &format!("set -e{ROOT}{}", self.mounts(pod, container)?);
        // The shell of the script is what the container's process will be.
        script += &format!(
            "mount -o remount,ro \"$1\"\nroot=$1; shift 2\nexec chroot $root setpriv {} /balancing \"$@\"' sh \"$@\"",
            privileges(&container["securityContext"])?
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).arg(&root).arg(program);
        command.args(container["args"].as_array().into_iter().flatten().filter_map(Value::as_str));
        unconfigure(&mut command);
        for variable in container["env"].as_array().into_iter().flatten() {
            let name = variable["name"].as_str().context("a variable has a name")?;
            let field = &variable["valueFrom"]["fieldRef"]["fieldPath"];
            let value =
                if field == "spec.nodeName" { "n1" } else { variable["value"].as_str().unwrap_or("?") };
            command.env(name, value);
        }
        command.env("KUBERNETES_SERVICE_HOST", self.api_server.0);
        command.env("KUBERNETES_SERVICE_PORT", self.api_server.1.to_string());
        // On the host's network.
        self.host.namespace().contain(&mut command)?;
        Ok(command)
    }

    /// Shell commands that mount what the pod has, in the new root.
    fn mounts(&self, pod: &Value, container: &Value) -> Result<String> {
        let mut script = String::new();
        let mut mount = |from: &Path, point: &str, read_only: bool| {
            let from = from.display();
            let _ = writeln!(script, "mkdir -p .{point}; mount --rbind {from} .{point}");
            if read_only {
                let _ = writeln!(script, "mount -o remount,bind,ro .{point}");
            }
        };
        for wanted in container["volumeMounts"].as_array().context("volume mounts")? {
            let volume =
                pod["volumes"].as_array().into_iter().flatten().find(|it| it["name"] == wanted["name"]);
            let volume = volume.context("a volume of that name")?;
            let from = match volume["hostPath"]["path"].as_str() {
                Some("/run/balancing") => self.host.socket().with_file_name(""),
                Some("/sys/fs/bpf") => self.host.pins().with_file_name(""),
                Some(path) => PathBuf::from(path),
                None => self.config(&volume["configMap"])?,
            };
            let point = wanted["mountPath"].as_str().context("a mount has a path")?;
            mount(&from, point, wanted["readOnly"] == true);
        }
        let account: Vec<_> = self.account.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let account = self.files("account", &account)?;
        mount(&account, "/var/run/secrets/kubernetes.io/serviceaccount", true);
        Ok(script)
    }

    fn config(&self, reference: &Value) -> Result<PathBuf> {
        let map = one(self.objects, "ConfigMap");
        anyhow::ensure!(map["metadata"]["name"] == reference["name"], "no such ConfigMap: {reference}");
        let files = map["data"].as_object().context("data of the ConfigMap")?;
        let files: Vec<_> =
            files.iter().map(|(name, text)| (name.as_str(), text.as_str().unwrap_or("?"))).collect();
        self.files("config", &files)
    }

    fn files(&self, name: &str, files: &[(&str, &str)]) -> Result<PathBuf> {
        let directory = self.directory.join(name);
        fs::create_dir_all(&directory).context("a directory of files")?;
        for (file, text) in files {
            fs::write(directory.join(file), text).with_context(|| format!("write {file}"))?;
        }
        Ok(directory)
    }
}

/// Arguments of setpriv for a container's security context.
fn privileges(context: &Value) -> Result<String> {
    anyhow::ensure!(context["runAsUser"] == 0 && context["readOnlyRootFilesystem"] == true, "{context}");
    anyhow::ensure!(context["capabilities"]["drop"][0] == "ALL", "{context}");
    let mut set = "-all".to_owned();
    for capability in context["capabilities"]["add"].as_array().into_iter().flatten() {
        set += &format!(",+{}", capability.as_str().unwrap_or("?").to_lowercase());
    }
    let no_new = if context["allowPrivilegeEscalation"] == false { "--no-new-privs" } else { "" };
    Ok(format!("--bounding-set {set} --inh-caps -all {no_new}"))
}
