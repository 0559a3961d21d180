//! Network namespaces as machines.
//!
//! A namespace belongs to threads: [`Namespace::run`] runs a closure on a thread of its own that is inside,
//! so nothing has to be restored and a panic leaves nobody in the wrong place. Sockets stay in the namespace
//! they were created in, whoever uses them later.

use std::{
    fs::File,
    io,
    net::IpAddr,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::process::CommandExt,
    },
    panic,
    process::Command,
    thread,
};

use anyhow::{Context, Result, anyhow, bail};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// A network namespace with its loopback up. It goes away with the last process, socket and value that is in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Makes a namespace; `name` is only for messages and need not be unique.
    pub fn create(name: &str) -> Result<Self> {
        let file = on_thread(|| -> Result<File> {
            // SAFETY: this thread shares no file descriptor table or address space that NEWNET could affect.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
                .with_context(|| format!("unshare(CLONE_NEWNET) for {name}: needs root"))?;
            File::open("/proc/thread-self/ns/net").context("open /proc/thread-self/ns/net")
        })?;
        let namespace = Self { name: name.to_owned(), file };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The namespace that the calling thread is in.
    pub fn current(name: &str) -> Result<Self> {
        let file = File::open("/proc/thread-self/ns/net").context("open /proc/thread-self/ns/net")?;
        Ok(Self { name: name.to_owned(), file })
    }

    /// The name that messages use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Moves the calling thread inside, for good.
    pub fn enter_thread(&self) -> Result<()> {
        move_into_link_name_space(self.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("setns to namespace {}", self.name))
    }

    /// Runs `work` inside, on a thread of its own, which inherits the caller's cgroup.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on_thread(|| {
            if let Err(error) = self.enter_thread() {
                panic!("{error:#}");
            }
            work()
        })
    }

    /// Makes `command` start inside.
    pub fn contain(&self, command: &mut Command) -> Result<()> {
        let file = self.file.try_clone().context("dup of a namespace")?;
        let enter = move || {
            // SAFETY: setns(2) is async-signal-safe, and the descriptor is owned by this closure.
            match unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        };
        // SAFETY: between fork and exec the closure only calls setns(2).
        unsafe { command.pre_exec(enter) };
        Ok(())
    }

    /// `ip ARGUMENTS` inside; what it prints.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        let mut ip = Command::new("ip");
        self.contain(&mut ip)?;
        let output =
            ip.args(arguments.split_whitespace()).output().context("run ip: is iproute2 installed?")?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            bail!("ip {arguments} in namespace {}: {}", self.name, why.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Gives the namespace another address on its loopback: enough for backends of tests on one machine.
    pub fn add_address(&self, address: IpAddr) -> Result<()> {
        self.ip(&format!("address add {} dev lo{}", host_prefix(address), no_detection(address))).map(drop)
    }

    /// Sends what is for `destination` (`10.1.0.0/16`, `default`, `::/0`) to `gateway`.
    pub fn add_route(&self, destination: &str, gateway: IpAddr) -> Result<()> {
        let family = if gateway.is_ipv4() { "-4" } else { "-6" };
        self.ip(&format!("{family} route add {destination} via {gateway}")).map(drop)
    }

    /// Makes it a router for both families.
    pub fn forward(&self) -> Result<()> {
        // A thread's own view of /proc/sys/net is that of its namespace.
        self.run(|| {
            for file in ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"] {
                std::fs::write(file, "1").with_context(|| format!("write {file}"))?;
            }
            Ok(())
        })
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// One end of a [`veth`] pair.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Where it is.
    pub namespace: &'a Namespace,
    /// Name of the interface, at most 15 characters, unique in its namespace.
    pub interface: &'a str,
    /// Its addresses with prefix lengths: `10.1.0.1/24`, `fd00:1::1/64`.
    pub addresses: &'a [&'a str],
}

/// Connects two namespaces by a pair of virtual interfaces, both up, addresses usable at once.
pub fn veth(a: End<'_>, b: End<'_>) -> Result<()> {
    for end in [&a, &b] {
        if end.interface.len() > 15 {
            return Err(anyhow!("interface name {} is longer than 15 characters", end.interface));
        }
    }
    // Made inside of `a`, with its other end moved to `b` by a path that `ip` inherits.
    let file = b.namespace.file.as_raw_fd();
    let target = format!("/proc/{}/fd/{file}", std::process::id());
    a.namespace
        .ip(&format!("link add {} type veth peer name {} netns {target}", a.interface, b.interface))?;
    for end in [&a, &b] {
        for address in end.addresses {
            let ip = address.split('/').next().unwrap_or_default().parse();
            let ip: IpAddr = ip.with_context(|| format!("{address} is not address/length"))?;
            end.namespace.ip(&format!("address add {address} dev {}{}", end.interface, no_detection(ip)))?;
        }
        end.namespace.ip(&format!("link set {} up", end.interface))?;
    }
    Ok(())
}

fn host_prefix(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

/// IPv6 would hold an address back for a second to see whether somebody else has it.
fn no_detection(address: IpAddr) -> &'static str {
    if address.is_ipv6() { " nodad" } else { "" }
}

/// Runs `work` on a thread of its own; a panic in it is the caller's panic.
pub(crate) fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(value) => value,
        Err(cause) => panic::resume_unwind(cause),
    })
}
