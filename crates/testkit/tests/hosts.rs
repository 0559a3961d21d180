//! The test hosts themselves: if these lie, every other test does.

#![allow(unsafe_code, clippy::unwrap_used)]

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd,
    process::{Command, Stdio},
    time::Duration,
};

use testkit::{
    Backend, Bpffs, Cgroup, Exchange, Family, Kind, Namespace, backend,
    client::{Client, TIMEOUT},
    exchange,
    netns::{End, veth},
    require_root, wait,
};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A client and a server namespace, connected in both families.
fn two_hosts() -> (Namespace, Namespace) {
    require_root();
    let client = Namespace::create("client").unwrap();
    let server = Namespace::create("server").unwrap();
    veth(
        End { namespace: &client, interface: "eth0", addresses: &["10.1.0.1/24", "fd00:1::1/64"] },
        End { namespace: &server, interface: "eth0", addresses: &["10.1.0.2/24", "fd00:1::2/64"] },
    )
    .unwrap();
    (client, server)
}

#[test]
fn every_kind_of_socket_reaches_its_backend() {
    let (client, server) = two_hosts();
    let _v4 = backend::pair(&server, "four", ip("10.1.0.2"), 8080).unwrap();
    let _v6 = backend::pair(&server, "six", ip("fd00:1::2"), 8080).unwrap();
    for kind in Kind::ALL {
        for family in Family::ALL {
            let (name, own, destination) = match family {
                Family::V6 => ("six", ip("fd00:1::1"), SocketAddr::new(ip("fd00:1::2"), 8080)),
                _ => ("four", ip("10.1.0.1"), SocketAddr::new(ip("10.1.0.2"), 8080)),
            };
            let seen = client.run(|| exchange(kind, family, destination)).unwrap();
            let expected = Exchange { backend: name.to_owned(), client: seen.client, peer: destination };
            assert_eq!((seen.client.ip(), seen), (own, expected), "{kind:?} {family:?}");
        }
    }
}

#[test]
fn a_closed_backend_refuses_and_frees_its_port() {
    let (client, server) = two_hosts();
    let address = SocketAddr::new(ip("10.1.0.2"), 8080);
    let mut pair = backend::pair(&server, "first", address.ip(), address.port()).unwrap();
    for kind in Kind::ALL {
        client.run(|| exchange(kind, Family::V4, address)).unwrap();
    }
    assert_eq!((pair[0].served(), pair[1].served()), (1, 2));
    pair.iter_mut().for_each(Backend::close);
    for kind in [Kind::Tcp, Kind::ConnectedUdp] {
        let error = client.run(|| exchange(kind, Family::V4, address)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED), "{kind:?}: {error}");
    }
    let _again = backend::pair(&server, "second", address.ip(), address.port()).unwrap();
    let seen = client.run(|| exchange(Kind::Tcp, Family::V4, address)).unwrap();
    assert_eq!(seen.backend, "second");
}

#[test]
fn lasting_connections_last_until_the_backend_closes() {
    let (client, server) = two_hosts();
    let mut backend = Backend::tcp_lasting(&server, "b", SocketAddr::new(ip("fd00:1::2"), 0)).unwrap();
    let mut open = client.run(|| Client::open(Kind::Tcp, Family::V6, backend.address(), TIMEOUT)).unwrap();
    let first = open.ask().unwrap();
    assert_eq!(first, open.again().unwrap());
    assert_eq!(first.client, open.local().unwrap());
    assert_eq!(backend.served(), 2);
    backend.close();
    assert_eq!(open.ask().unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn silence_is_bounded_by_the_timeout() {
    let (client, server) = two_hosts();
    let mut backend = Backend::udp(&server, "b", SocketAddr::new(ip("10.1.0.2"), 0)).unwrap();
    let address = backend.address();
    let open = || Client::open(Kind::UnconnectedUdp, Family::V4, address, Duration::from_millis(50));
    let mut open = client.run(open).unwrap();
    open.ask().unwrap();
    backend.close();
    assert_eq!(open.again().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn children_start_in_the_namespace_and_the_cgroup() {
    require_root();
    let namespace = Namespace::create("child").unwrap();
    namespace.add_address(ip("10.9.9.9")).unwrap();
    let cgroup = Cgroup::create().unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", "ip -brief address show dev lo; cat /proc/self/cgroup; exec sleep 100"])
        .stdout(Stdio::piped());
    namespace.contain(&mut command).unwrap();
    let mut child = cgroup.spawn(&mut command).unwrap();
    let mut lines = io::BufRead::lines(io::BufReader::new(child.stdout.take().unwrap()));
    assert!(lines.next().unwrap().unwrap().contains("10.9.9.9/32"));
    let name = cgroup.path().file_name().unwrap().to_str().unwrap().to_owned();
    let inside = lines.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("0::"))).unwrap().unwrap();
    assert_eq!(inside, format!("0::/{name}"));
    // Dropping must not wait for those inside.
    let path = cgroup.path().to_owned();
    drop(cgroup);
    assert!(!path.exists());
    assert_eq!(child.try_wait().unwrap(), None, "dropping the cgroup must not end the child");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_bpffs_is_private_and_goes_away() {
    require_root();
    let (a, b) = (Bpffs::mount().unwrap(), Bpffs::mount().unwrap());
    assert_ne!(a.path(), b.path());
    let magic = |bpffs: &Bpffs| rustix::fs::statfs(bpffs.path()).unwrap().f_type;
    assert_eq!(magic(&a), 0xcafe_4a11);
    let path = a.path().to_owned();
    drop(a);
    assert!(!path.exists());
    assert_eq!(magic(&b), 0xcafe_4a11);
}

#[test]
fn everything_goes_away_after_a_panic() {
    require_root();
    let panicked = std::thread::spawn(|| {
        let cgroup = Cgroup::create().unwrap();
        let inner = cgroup.child("pod").unwrap();
        let bpffs = Bpffs::mount().unwrap();
        let paths = [inner.path().to_owned(), cgroup.path().to_owned(), bpffs.path().to_owned()];
        cgroup.enter_thread().unwrap();
        std::panic::panic_any(paths);
    });
    let paths = *panicked.join().unwrap_err().downcast::<[std::path::PathBuf; 3]>().unwrap();
    wait::until(Duration::from_secs(2), "removal", || paths.iter().all(|path| !path.exists()));
}

#[test]
fn a_panic_inside_is_a_panic_outside() {
    require_root();
    let namespace = Namespace::create("panic").unwrap();
    let caught =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| namespace.run(|| panic!("inside"))));
    assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "inside");
}

/// The ground that all kernel tests stand on: a program attached to a test's cgroup concerns the threads
/// inside, and no other thread of the same process.
#[test]
fn programs_concern_only_threads_inside() {
    let (client, server) = two_hosts();
    let backend = Backend::tcp(&server, "b", SocketAddr::new(ip("10.1.0.2"), 0)).unwrap();
    let (cgroup, other) = (Cgroup::create().unwrap(), Cgroup::create().unwrap());
    attach_refusal(&cgroup);
    let connect = || exchange(Kind::Tcp, Family::V4, backend.address());
    let refused = client.run(|| cgroup.run(connect)).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
    let nested = cgroup.child("nested").unwrap();
    let refused = client.run(|| nested.run(connect)).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
    client.run(connect).unwrap();
    client.run(|| other.run(connect)).unwrap();
    assert_ne!(cgroup.id().unwrap(), other.id().unwrap());
}

/// Attaches `return 0` to connect4: every connect fails with EPERM.
fn attach_refusal(cgroup: &Cgroup) {
    const PROG_LOAD: libc::c_long = 5;
    const PROG_ATTACH: libc::c_long = 8;
    const CGROUP_SOCK_ADDR: u32 = 18;
    const INET4_CONNECT: u32 = 10;
    // r0 = 0; exit
    let program: [u64; 2] = [0xb7, 0x95];
    let license = c"GPL";
    let bpf = |command: libc::c_long, attributes: &[u64; 16]| {
        // SAFETY: the kernel reads 128 bytes of attributes, and the memory that they point to, which all lives here.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), 128) };
        assert!(result >= 0, "bpf({command}): {}", io::Error::last_os_error());
        u32::try_from(result).unwrap()
    };
    let mut load = [0; 16];
    load[0] = u64::from(CGROUP_SOCK_ADDR) | (2 << 32);
    load[1] = program.as_ptr() as u64;
    load[2] = license.as_ptr() as u64;
    // expected_attach_type is at byte 68.
    load[8] = u64::from(INET4_CONNECT) << 32;
    let loaded = bpf(PROG_LOAD, &load);
    let directory = std::fs::File::open(cgroup.path()).unwrap();
    let target = u64::try_from(directory.as_raw_fd()).unwrap();
    let mut attach = [0; 16];
    attach[0] = target | (u64::from(loaded) << 32);
    attach[1] = u64::from(INET4_CONNECT);
    bpf(PROG_ATTACH, &attach);
}
