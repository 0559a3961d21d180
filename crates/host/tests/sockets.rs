//! Namespaces, their sockets and their addresses, on this very machine. They need root.
#![allow(clippy::unwrap_used)]

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    ops::ControlFlow,
    sync::mpsc::channel,
    thread,
};

use host::{
    Addresses, InetSocket, NetworkNamespace, SockDiag, Transport, descriptor::find_sockets, namespace::visit,
    sock_diag::state,
};
use rustix::net::sockopt::socket_cookie;
use testkit::{Namespace, require_root};

fn list(transport: Transport, states: u32) -> Vec<InetSocket> {
    let mut sockets = Vec::new();
    SockDiag::open().unwrap().list(transport, states, |socket| sockets.push(socket)).unwrap();
    sockets
}

fn with_cookie(transport: Transport, cookie: u64) -> Option<InetSocket> {
    list(transport, u32::MAX).into_iter().find(|socket| socket.cookie() == cookie)
}

/// Inodes of all namespaces that are found; the search must have been complete.
fn inodes() -> HashSet<u64> {
    let mut inodes = HashSet::new();
    let visited = visit(|namespace| {
        assert!(inodes.insert(namespace.inode()), "one namespace twice");
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!((visited.namespaces, visited.incomplete), (inodes.len(), false));
    inodes
}

#[test]
fn a_namespace_is_found_while_a_single_thread_is_in_it() {
    require_root();
    let namespace = Namespace::create("thread").unwrap();
    let own = NetworkNamespace::own().unwrap();
    let other = namespace.run(NetworkNamespace::own).unwrap();
    // A descriptor of ours alone leads nobody there.
    assert!(inodes().contains(&own.inode) && !inodes().contains(&other.inode));
    let (stop, stopped) = channel::<()>();
    let (ready, entered) = channel();
    thread::scope(|scope| {
        let namespace = &namespace;
        scope.spawn(move || {
            namespace.enter_thread().unwrap();
            ready.send(()).unwrap();
            let _ = stopped.recv();
        });
        entered.recv().unwrap();
        let mut cookie = None;
        visit(|found| {
            if found.inode() != other.inode {
                return ControlFlow::Continue(());
            }
            cookie = found.run(NetworkNamespace::own).unwrap().unwrap().cookie;
            ControlFlow::Break(())
        })
        .unwrap();
        assert_eq!(cookie, other.cookie);
        // The caller has not moved.
        assert_eq!(NetworkNamespace::own().unwrap(), own);
        drop(stop);
    });
    testkit::wait::until(std::time::Duration::from_secs(5), "the thread to be gone", || {
        !inodes().contains(&other.inode)
    });
}

#[test]
fn a_namespace_is_found_by_its_mount() {
    require_root();
    let namespace = Namespace::create("mount").unwrap();
    let inode = namespace.run(NetworkNamespace::own).unwrap().inode;
    let file = tempfile::NamedTempFile::new().unwrap();
    namespace.run(|| rustix::mount::mount_bind("/proc/thread-self/ns/net", file.path())).unwrap();
    let found = inodes().contains(&inode);
    rustix::mount::unmount(file.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(found && !inodes().contains(&inode));
}

#[test]
fn a_socket_leads_to_a_namespace_that_nothing_else_does() {
    require_root();
    let namespace = Namespace::create("hidden").unwrap();
    let (socket, own) =
        namespace.run(|| (UdpSocket::bind("127.0.0.1:0").unwrap(), NetworkNamespace::own().unwrap()));
    drop(namespace);
    assert!(!inodes().contains(&own.inode));
    let cookie = socket_cookie(&socket).unwrap();
    let mut found = Vec::new();
    find_sockets(&HashSet::from([cookie, u64::MAX]), |cookie, socket| {
        found.push((cookie, socket.namespace().unwrap()));
    })
    .unwrap();
    let [(of, namespace)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((*of, namespace.inode()), (cookie, own.inode));
    assert!(namespace.run(|| with_cookie(Transport::Udp, cookie)).unwrap().is_some());
    assert_eq!(with_cookie(Transport::Udp, cookie), None, "it is in its own namespace only");
}

/// Connected UDP sockets of each family, by their bind and their peer.
const PAIRS: [(&str, &str); 3] =
    [("127.0.0.1:0", "127.0.0.1:9"), ("[::1]:0", "[::1]:9"), ("[::]:0", "[::ffff:127.0.0.1]:9")];

#[test]
fn connected_udp_sockets_are_listed_and_closed() {
    require_root();
    let namespace = Namespace::create("udp").unwrap();
    namespace.run(|| {
        for (bind, peer) in PAIRS {
            let peer: SocketAddr = peer.parse().unwrap();
            let socket = UdpSocket::bind(bind).unwrap();
            let cookie = socket_cookie(&socket).unwrap();
            let idle = with_cookie(Transport::Udp, cookie).unwrap();
            assert_eq!((idle.state, idle.remote.port()), (state::CLOSE, 0));
            socket.connect(peer).unwrap();
            let found = with_cookie(Transport::Udp, cookie).unwrap();
            assert_eq!(found.state, state::ESTABLISHED);
            assert_eq!(found.remote, SocketAddr::new(peer.ip().to_canonical(), peer.port()));
            assert_eq!(found.local.port(), socket.local_addr().unwrap().port());
            let open = list(Transport::Udp, 1 << state::ESTABLISHED);
            assert_eq!(open.iter().map(InetSocket::cookie).collect::<Vec<_>>(), [cookie]);
            let mut diag = SockDiag::open().unwrap();
            // As it was listed, or not at all.
            assert!(!diag.destroy(&idle).unwrap());
            socket.send(b"as ever").unwrap();
            assert!(diag.destroy(&found).unwrap());
            assert_eq!(socket.recv(&mut [0]).unwrap_err().raw_os_error(), Some(libc::ECONNABORTED));
            assert_eq!(socket.send(b"to whom?").unwrap_err().raw_os_error(), Some(libc::EDESTADDRREQ));
            assert!(!diag.destroy(&found).unwrap(), "already gone is no error");
        }
    });
}

#[test]
fn tcp_connections_are_listed_and_reset() {
    require_root();
    let namespace = Namespace::create("tcp").unwrap();
    namespace.run(|| {
        for ip in [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            Ipv6Addr::LOCALHOST.into(),
            Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(),
        ] {
            let listener = TcpListener::bind(SocketAddr::new(ip.to_canonical(), 0)).unwrap();
            let to = SocketAddr::new(ip, listener.local_addr().unwrap().port());
            let client = TcpStream::connect(to).unwrap();
            let found = with_cookie(Transport::Tcp, socket_cookie(&client).unwrap()).unwrap();
            assert_eq!((found.state, found.remote), (state::ESTABLISHED, listener.local_addr().unwrap()));
            let mut diag = SockDiag::open().unwrap();
            assert!(diag.destroy(&found).unwrap());
            assert_eq!(
                io::Read::read(&mut &client, &mut [0]).unwrap_err().raw_os_error(),
                Some(libc::ECONNABORTED)
            );
            let other = with_cookie(Transport::Tcp, socket_cookie(&listener).unwrap()).unwrap();
            assert_eq!(other.remote.port(), 0);
        }
    });
}

/// More than fits into one answer of the kernel, several times.
#[test]
fn thousands_of_sockets_are_listed_whole() {
    require_root();
    let namespace = Namespace::create("many").unwrap();
    namespace.run(|| {
        let sockets: Vec<UdpSocket> = (0..800)
            .map(|_| {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                socket.connect("127.0.0.1:9").unwrap();
                socket
            })
            .collect();
        let wanted: HashSet<u64> = sockets.iter().map(|socket| socket_cookie(socket).unwrap()).collect();
        let listed: Vec<u64> = list(Transport::Udp, u32::MAX).iter().map(InetSocket::cookie).collect();
        assert_eq!((listed.len(), listed.into_iter().collect()), (800, wanted));
    });
}

#[test]
fn a_pods_address_is_that_of_its_default_route() {
    require_root();
    let namespace = Namespace::create("pod").unwrap();
    assert_eq!(namespace.run(Addresses::own).unwrap(), Addresses::default());
    for command in [
        "link add low type veth peer name low-end",
        "link add eth type veth peer name eth-end",
        "link set low up",
        "link set eth up",
        "link set low-end up",
        "link set eth-end up",
        "address add 10.9.0.1/24 dev low",
        "address add 10.8.0.1/24 dev eth",
        "address add fd00:9::1/64 dev low nodad",
        "address add fd00:8::1/64 dev eth nodad",
        "route add default via 10.8.0.254",
    ] {
        namespace.ip(command).unwrap();
    }
    let ips = |texts: [&str; 2]| texts.map(|text| text.parse::<IpAddr>().unwrap()).to_vec();
    let found = || namespace.run(Addresses::own).unwrap().all();
    let expected: Vec<_> = [ips(["10.8.0.1", "10.9.0.1"]), ips(["fd00:9::1", "fd00:8::1"])].concat();
    assert_eq!(found(), expected, "there is no default route of IPv6: the first interface");
    namespace.ip("-6 route add default via fd00:8::fe").unwrap();
    let expected: Vec<_> = [ips(["10.8.0.1", "10.9.0.1"]), ips(["fd00:8::1", "fd00:9::1"])].concat();
    assert_eq!(found(), expected);
}
