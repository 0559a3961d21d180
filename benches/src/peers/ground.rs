//! A namespace whose packets go by a peer's rules, and a client there.

use std::{
    cell::Cell,
    io::Write,
    os::fd::{AsFd, OwnedFd},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use model::Protocol;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use testkit::Cgroup;

use super::{
    Rules,
    rules::{self, CLIENT, VIPS},
};
use crate::{
    operation::Case,
    site::Site,
    tables::endpoint4,
    worker::{Cpu, Worker},
};

/// Connections after which the kernel forgets those it has tracked: few, so that hardly a client gets the port of one
/// that is still remembered, whose decision would be found instead of made; and the table never fills.
const REMEMBERED: u32 = 2048;

/// Services in one transaction of `nft`: the time for one grows with the square of it.
const BATCH: u32 = 1000;

/// See the module.
pub(crate) struct Ground {
    worker: Worker,
    /// A netlink socket that speaks to the connection tracking of this namespace.
    tracking: OwnedFd,
    tracked: Cell<u32>,
    _site: Site,
}

impl Ground {
    /// Builds one, with rules for so many services of one protocol.
    pub(crate) fn build(
        rules: Rules,
        protocol: Protocol,
        services: u32,
        cgroup: &Arc<Cgroup>,
        cpu: Cpu,
    ) -> Result<Self> {
        let site = Site::build(rules.name())?;
        // A VIP is somewhere, until a rule says where; what goes there comes from an address of its own, since a client
        // that is its own backend is masqueraded. Replies to it come from the backend's address.
        site.namespace.add_address(CLIENT.parse()?)?;
        let backend = endpoint4(0);
        site.namespace.ip(&format!("route del local {CLIENT} dev lo table local"))?;
        site.namespace.ip(&format!("route add local {CLIENT} dev lo table local src {backend}"))?;
        site.namespace.ip(&format!("route add {VIPS} dev lo src {CLIENT}"))?;
        load(&site, rules, protocol, services)?;
        let tracking = site.namespace.run(|| {
            let flags = SocketFlags::CLOEXEC;
            socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::NETFILTER))
        });
        Ok(Self {
            worker: site.worker(cgroup, cpu, services)?,
            tracking: tracking.context("open a netlink socket")?,
            tracked: Cell::new(0),
            _site: site,
        })
    }

    /// How long `count` of `case` take.
    pub(crate) fn run(&self, case: Case, count: u32) -> Result<Duration> {
        if self.tracked.get() + count > REMEMBERED {
            // One that stays would be lost if its server spoke first afterwards: nobody would know of its VIP.
            self.worker.hang_up()?;
            forget_connections(&self.tracking)?;
            self.tracked.set(0);
        }
        // With those that don't count: see `worker`.
        self.tracked.set(self.tracked.get() + count + count / 4 + 4);
        self.worker.run(case, count)
    }
}

/// Puts rules in force.
fn load(site: &Site, rules: Rules, protocol: Protocol, services: u32) -> Result<()> {
    match rules {
        Rules::Conntrack => feed(site, "nft", &["-f", "-"], rules::conntrack()),
        Rules::Nftables => {
            feed(site, "nft", &["-f", "-"], rules::nftables())?;
            for first in (0..services).step_by(BATCH as usize) {
                let batch = first..services.min(first + BATCH);
                feed(site, "nft", &["-f", "-"], rules::nftables_services(protocol, batch))?;
            }
            Ok(())
        }
        Rules::IptablesNft => feed(site, "iptables-nft-restore", &[], rules::iptables(protocol, services)),
        Rules::IptablesLegacy => {
            feed(site, "iptables-legacy-restore", &[], rules::iptables(protocol, services))
        }
    }
}

/// Runs a program in the namespace and lets it read `text`.
fn feed(site: &Site, program: &str, arguments: &[&str], text: String) -> Result<()> {
    let mut command = Command::new(program);
    // Where Debian has it, also if that is not on the path of whoever runs this.
    let path = std::env::var("PATH").unwrap_or_default();
    command.args(arguments).env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    site.namespace.contain(&mut command)?;
    let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
    let mut input = child.stdin.take().context("no standard input")?;
    // On a thread of its own: it may complain at length before it has read all.
    let writer = thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().with_context(|| format!("cannot wait for {program}"))?;
    let written = writer.join().map_err(|_| anyhow!("the thread that feeds {program} has ended"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("{program}: {}", why.lines().next().unwrap_or("it failed, and did not say why"));
    }
    written.with_context(|| format!("{program} has not read all rules"))
}

/// Empties the table of connections of the namespace that the socket is in (linux/netfilter/nfnetlink_conntrack.h: a
/// IPCTNL_MSG_CT_DELETE that names none).
fn forget_connections(tracking: impl AsFd) -> Result<()> {
    const DELETE_CONNECTIONS: u16 = 1 << 8 | 2;
    const REQUEST_AND_ACK: u16 = 1 | 4;
    const LENGTH: u32 = 20;
    let mut message = Vec::from(LENGTH.to_ne_bytes());
    message.extend(DELETE_CONNECTIONS.to_ne_bytes());
    message.extend(REQUEST_AND_ACK.to_ne_bytes());
    // Sequence number, sender, and a `struct nfgenmsg` of all families.
    message.resize(LENGTH as usize, 0);
    send(&tracking, &message, SendFlags::empty()).context("forget tracked connections")?;
    let mut answer = [0; 64];
    let (length, _) =
        recv(&tracking, &mut answer, RecvFlags::empty()).context("forget tracked connections")?;
    // `struct nlmsghdr`, then an error number; 0 = done.
    match answer.get(16..20).filter(|_| length >= 20) {
        Some([0, 0, 0, 0]) => Ok(()),
        _ => bail!("the kernel does not forget tracked connections"),
    }
}
