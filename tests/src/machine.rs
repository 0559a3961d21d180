//! A machine of one's own: a cgroup with the programs in force, its pins, and a network namespace in which
//! every address of the test ranges is local, so that any of them can be a backend.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread,
};

use anyhow::{Context, Result, anyhow};
use host::CgroupRoot;
use kernel::{Installed, Loaded, Maps, Pins, Sizes};
use model::Protocol;
use plan::Capacity;
use testkit::{Backend, Bpffs, Cgroup, Namespace};

/// Small tables: quickly made, and quickly read whole.
pub const CAPACITY: Capacity = Capacity::for_cluster(256, 2048);

/// What is local in the namespace besides the loopback addresses.
const LOCAL4: [&str; 3] = ["10.1.0.0/16", EXAMPLES[0], EXAMPLES[1]];
/// Backends of an example of ../shared/spec/policies.md.
const EXAMPLES: [&str; 2] = ["192.0.2.11", "192.0.2.12"];
const LOCAL6: &str = "fd00:1::/64";

/// [`CAPACITY`], for the kernel.
pub fn sizes() -> Sizes {
    agent::sizes(&CAPACITY)
}

type Job = Box<dyn FnOnce() + Send>;

/// See the module.
pub struct Machine {
    /// Thread inside of the cgroup and the namespace; gone when this is.
    jobs: Sender<Job>,
    servers: BTreeMap<(Protocol, SocketAddr), Backend>,
    /// The namespace.
    pub namespace: Arc<Namespace>,
    /// The cgroup.
    pub cgroup: Arc<Cgroup>,
    /// The pins.
    pub pins: Pins,
    _bpffs: Bpffs,
}

impl Machine {
    /// With the programs in force.
    ///
    /// # Errors
    /// No root, or no kernel for it.
    pub fn new(name: &str) -> Result<Self> {
        let machine = Self::bare(name)?;
        machine.install()?;
        Ok(machine)
    }

    /// Without programs.
    ///
    /// # Errors
    /// No root.
    pub fn bare(name: &str) -> Result<Self> {
        testkit::require_root();
        let bpffs = Bpffs::mount()?;
        let cgroup = Arc::new(Cgroup::create()?);
        let namespace = Arc::new(Namespace::create(name)?);
        for local in LOCAL4 {
            namespace.ip(&format!("route add local {local} dev lo"))?;
        }
        namespace.ip(&format!("-6 route add local {LOCAL6} dev lo"))?;
        // A source address that isn't ::1, which would not be answered from elsewhere.
        namespace.add_address("fd00:1::ffff".parse()?)?;
        namespace.run(|| {
            // IPv6 takes no address of a local route for one of its own.
            std::fs::write("/proc/sys/net/ipv6/ip_nonlocal_bind", "1").context("write ip_nonlocal_bind")
        })?;
        let jobs = start_inside(Arc::clone(&cgroup), Arc::clone(&namespace))?;
        let pins = Pins::new(bpffs.path().join("pins"));
        Ok(Self { jobs, servers: BTreeMap::new(), namespace, cgroup, pins, _bpffs: bpffs })
    }

    /// Puts the programs in force, or replaces them.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn install(&self) -> Result<Installed, kernel::Error> {
        let sizes = sizes();
        let loaded = Loaded::load(&self.pins, &sizes)?;
        kernel::install(loaded, &self.pins, &sizes, self.cgroup.path())
    }

    /// The maps.
    ///
    /// # Errors
    /// They are not there.
    pub fn maps(&self) -> Result<Maps, kernel::Error> {
        Maps::open(&self.pins)
    }

    /// Id of the cgroup.
    ///
    /// # Errors
    /// It is gone.
    pub fn cgroup_id(&self) -> Result<u64> {
        Ok(CgroupRoot::discover(None)?.id(self.cgroup.path())?)
    }

    /// Runs `work` inside of the cgroup and the namespace. Sockets made there stay there.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = channel();
        let job = move || {
            // Nobody waits any more if the caller has panicked.
            let _ = sender.send(std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)));
        };
        self.jobs.send(Box::new(job)).expect("the thread inside has ended");
        match receiver.recv().expect("the thread inside has ended") {
            Ok(value) => value,
            Err(cause) => std::panic::resume_unwind(cause),
        }
    }

    /// Makes somebody listen at `address`, who answers with that address; no matter if somebody does already.
    ///
    /// # Errors
    /// The address is not local, or taken.
    pub fn listen(&mut self, protocol: Protocol, address: SocketAddr) -> Result<()> {
        if self.servers.contains_key(&(protocol, address)) {
            return Ok(());
        }
        let name = address.to_string();
        let server = match protocol {
            Protocol::Tcp => Backend::tcp(&self.namespace, &name, address),
            Protocol::Udp => Backend::udp(&self.namespace, &name, address),
        }?;
        self.servers.insert((protocol, address), server);
        Ok(())
    }

    /// Nobody listens there any more.
    pub fn close(&mut self, protocol: Protocol, address: SocketAddr) {
        self.servers.remove(&(protocol, address));
    }

    /// Nobody listens anywhere any more.
    pub fn close_all(&mut self) {
        self.servers.clear();
    }
}

/// Is it a loopback address, or in one of the ranges that a machine's namespace has?
pub fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            ip.octets().starts_with(&[10, 1]) || ip.is_loopback() || EXAMPLES.contains(&&*ip.to_string())
        }
        IpAddr::V6(ip) => ip.segments().starts_with(&[0xfd00, 1, 0, 0]) || ip.is_loopback(),
    }
}

fn start_inside(cgroup: Arc<Cgroup>, namespace: Arc<Namespace>) -> Result<Sender<Job>> {
    let (jobs, work) = channel::<Job>();
    let (ready, entered) = channel();
    thread::Builder::new().name("inside".into()).spawn(move || {
        let outcome = cgroup.enter_thread().and_then(|()| namespace.enter_thread());
        // The cgroup is removed by its owner, not here, where its removal would move this very thread.
        drop(cgroup);
        let is_inside = outcome.is_ok();
        if ready.send(outcome).is_ok() && is_inside {
            work.into_iter().for_each(|job| job());
        }
    })?;
    entered.recv().map_err(|_| anyhow!("the thread inside has ended"))??;
    Ok(jobs)
}
