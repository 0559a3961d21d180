//! Services and their endpoints as a directory of manifests.

use std::{
    ffi::OsString,
    fmt::Write,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::feed::{APART, ASKED, Feed, addresses, endpoint, name};
use crate::tables::{TARGET, vip4};

/// Services in one file.
const IN_ONE_FILE: u32 = 1000;
/// The file of the endpoints of the service that is asked: so that a change of them is one small file.
const ASKED_FILE: &str = "asked.yaml";

/// See the module.
pub(super) struct Manifests {
    directory: TempDir,
    /// Of endpoints conditions, node, zone and pod too.
    full: bool,
}

impl Manifests {
    /// `services` of one port, and the one that is asked at `vip`, with the endpoints from `first` on.
    pub(super) fn write(services: u32, full: bool, vip: Ipv4Addr, first: Ipv4Addr) -> Result<Self> {
        const PROTOCOLS: [&str; 1] = ["TCP"];
        let manifests = Self { directory: tempfile::tempdir().context("make a directory")?, full };
        for from in (0..services).step_by(IN_ONE_FILE as usize) {
            let mut text = String::new();
            for index in from..services.min(from + IN_ONE_FILE) {
                text += &manifests.service(&name(index), vip4(index), &PROTOCOLS);
                if index >= APART {
                    text += &manifests.other_slice(index, 0);
                }
            }
            manifests.put(&format!("services-{from:05}.yaml"), &text)?;
        }
        for index in 0..APART {
            manifests.put(&slice_file(index), &manifests.other_slice(index, 0))?;
        }
        manifests.put("asked-service.yaml", &manifests.service(ASKED, vip, &["TCP", "UDP"]))?;
        manifests.prepare(first)?;
        manifests.change()?;
        Ok(manifests)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Puts a file in place, atomically.
    fn put(&self, file: &str, text: &str) -> Result<()> {
        fs::write(self.draft(file), text).with_context(|| format!("write {}", self.draft(file).display()))?;
        self.rename(file)
    }

    /// A file before it is in place. The source passes over names that begin with a dot.
    fn draft(&self, file: &str) -> PathBuf {
        self.path().join(format!(".{file}"))
    }

    fn rename(&self, file: &str) -> Result<()> {
        let draft = self.draft(file);
        fs::rename(&draft, self.path().join(file)).with_context(|| format!("rename {}", draft.display()))
    }

    fn other_slice(&self, index: u32, turn: u32) -> String {
        self.slice(&name(index), endpoint(index, 0, turn), &["TCP"])
    }

    /// A service that answers on `ports`, each with its protocol and name.
    fn service(&self, name: &str, vip: Ipv4Addr, protocols: &[&str]) -> String {
        let ports: Vec<String> = protocols
            .iter()
            .map(|it| {
                format!("{{name: {}, protocol: {it}, port: 80, targetPort: {TARGET}}}", it.to_lowercase())
            })
            .collect();
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  clusterIP: {vip}\n  ports: [{}]\n",
            ports.join(", ")
        )
    }

    /// Its endpoints: ten addresses from `first` on.
    fn slice(&self, service: &str, first: Ipv4Addr, protocols: &[&str]) -> String {
        let ports: Vec<String> = protocols
            .iter()
            .map(|it| format!("{{name: {}, protocol: {it}, port: {TARGET}}}", it.to_lowercase()))
            .collect();
        let mut text = format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {service}-1, labels: \
             {{kubernetes.io/service-name: {service}}}}}\naddressType: IPv4\nports: [{}]\nendpoints:\n",
            ports.join(", ")
        );
        for ip in addresses(first) {
            // Writing to a String does not fail.
            let _ = writeln!(text, "- addresses: [{ip}]");
            if self.full {
                let number = u32::from(ip);
                let _ = writeln!(
                    text,
                    "  conditions: {{ready: true, serving: true, terminating: false}}\n  nodeName: node-{}\n  zone: zone-{}\n  \
                     targetRef: {{kind: Pod, namespace: default, name: {service}-6d4cf56db6-{number:08x}}}",
                    number % 1000,
                    number % 3
                );
            }
        }
        text
    }
}

impl Feed for Manifests {
    fn arguments(&self) -> Vec<OsString> {
        vec!["--manifests".into(), self.path().into()]
    }

    fn prepare(&self, first: Ipv4Addr) -> Result<()> {
        let text = self.slice(ASKED, first, &["TCP", "UDP"]);
        fs::write(self.draft(ASKED_FILE), text).context("write the endpoints")
    }

    fn change(&self) -> Result<()> {
        self.rename(ASKED_FILE)
    }

    fn change_hundred(&self, turn: u32) -> Result<()> {
        let texts: Vec<String> = (0..APART).map(|index| self.other_slice(index, turn)).collect();
        (0..).zip(&texts).try_for_each(|(index, text)| self.put(&slice_file(index), text))
    }
}

fn slice_file(index: u32) -> String {
    format!("slice-{index:03}.yaml")
}
