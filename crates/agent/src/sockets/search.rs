//! Looking for stale sockets in every network namespace of the machine, and for slots without a socket. It all
//! blocks, and has a thread for it.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    ops::ControlFlow,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use abi::Backend;
use host::{
    InetSocket, NetworkNamespace, OpenNamespace, SockDiag, Transport,
    descriptor::{OpenSocket, find_sockets, visit_sockets},
    namespace::visit,
    sock_diag::state,
};
use kernel::{Connection, Maps, Pins, Slots, connections::Owned};

/// After this long a stale connection that no namespace shows is looked for by the descriptors of all processes, and
/// then not again. Until then it may be a connect that is still on its way.
pub(crate) const GIVE_UP: Duration = Duration::from_millis(300);

/// States in which a socket has a connection that can be ended.
const OPEN: u32 = 1 << state::ESTABLISHED
    | 1 << state::SYN_SENT
    | 1 << state::FIN_WAIT1
    | 1 << state::FIN_WAIT2
    | 1 << state::CLOSE_WAIT
    | 1 << state::LAST_ACK
    | 1 << state::CLOSING;

/// States in which what is listed is no socket of an application: TIME_WAIT, SYN_RECV, NEW_SYN_RECV.
const NO_SOCKET: u32 = 1 << 3 | 1 << 6 | 1 << 12;

/// What is to be done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Task {
    /// Look also at what only the sockets' storage tells.
    pub(crate) storage: bool,
    /// Look for slots without a socket.
    pub(crate) slots: bool,
}

/// A connection that was ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed {
    /// Which.
    pub(crate) connection: Connection,
    /// The socket's own address.
    pub(crate) local: SocketAddr,
    /// Cookie of its network namespace.
    pub(crate) netns: Option<u64>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) closed: Vec<Closed>,
    /// Stale connections of sockets that are nowhere.
    pub(crate) not_found: usize,
    /// There are slots whose owner is nowhere since this audit: the next one decides.
    pub(crate) suspects: bool,
    /// Slots freed.
    pub(crate) freed: usize,
    pub(crate) problem: Option<String>,
    pub(crate) took: Duration,
}

/// What one content of one slot is known by.
type Key = (u64, u8);

fn key(connection: &Connection) -> Key {
    (connection.cookie, connection.version)
}

/// How far the search for a stale connection has come.
#[derive(Clone, Copy)]
enum Stage {
    Since(Instant),
    /// Ended, or given up.
    Over,
}

/// Everything that searches need, and what they remember.
pub(crate) struct Search {
    tables: Tables,
    /// Stale connections in slots.
    stages: HashMap<Key, Stage>,
    /// Slots whose owner was nowhere at the last audit.
    absent: HashMap<u64, Owned>,
}

struct Tables {
    pins: Pins,
    maps: Maps,
    slots: Slots,
    reset_tcp: bool,
}

impl Search {
    /// Over the pinned maps.
    pub(crate) fn open(pins: &Pins, reset_tcp: bool) -> Result<Self, kernel::Error> {
        let maps = Maps::open(pins)?;
        let slots = Slots::open(&maps)?;
        // What an agent that was killed in the middle of an audit has left.
        slots.unmark();
        let tables = Tables { pins: pins.clone(), maps, slots, reset_tcp };
        Ok(Self { tables, stages: HashMap::new(), absent: HashMap::new() })
    }

    /// Does it.
    pub(crate) fn run(&mut self, task: Task) -> Outcome {
        let begun = Instant::now();
        let mut outcome = Outcome::default();
        let done = self
            .open_again()
            .and_then(|()| self.close_stale(task.storage || task.slots, &mut outcome))
            .and_then(|()| if task.slots { self.free_slots(&mut outcome) } else { Ok(()) });
        if let Err(error) = done {
            outcome.problem = Some(error.to_string());
        }
        outcome.took = begun.elapsed();
        outcome
    }

    /// Larger tables may have come since the last search. While one is under way none do
    /// ([`super::Sockets::is_idle`]): in a smaller one backends would be missing, and whoever is on them be closed.
    fn open_again(&mut self) -> Result<(), crate::Error> {
        self.tables.maps = Maps::open(&self.tables.pins)?;
        Ok(())
    }

    fn close_stale(&mut self, storage: bool, outcome: &mut Outcome) -> Result<(), crate::Error> {
        let stale = self.tables.stale()?;
        self.stages.retain(|key, _| stale.get(&key.0).is_some_and(|connection| connection.version == key.1));
        let mut wanted: HashMap<u64, Connection> = stale;
        let now = Instant::now();
        wanted.retain(|_, connection| {
            matches!(self.stages.entry(key(connection)).or_insert(Stage::Since(now)), Stage::Since(_))
        });
        let storage = storage && self.tables.slots.use_storage();
        if wanted.is_empty() && !storage {
            return Ok(());
        }
        let mut disconnected = HashSet::new();
        let mut storing = HashMap::new();
        let visited = visit(|namespace| {
            let work = Work { tables: &self.tables, wanted: &wanted, storage };
            let found = work.run_in(namespace, outcome);
            for cookie in &found.closed {
                if let Some(connection) = wanted.remove(cookie) {
                    self.stages.insert(key(&connection), Stage::Over);
                }
            }
            disconnected.extend(found.disconnected);
            storing.extend(found.storing.into_iter().map(|socket| (u64::from(socket.inode), socket)));
            if wanted.is_empty() && !storage { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        visited?;
        self.tables.close_stored(&storing, outcome)?;
        // What fails is tried again.
        if outcome.problem.is_none() {
            self.give_up(&wanted, &disconnected, outcome)?;
        }
        Ok(())
    }

    /// A last look for those that have been sought for long enough: a socket may be all that is left of its namespace.
    fn give_up(
        &mut self,
        wanted: &HashMap<u64, Connection>,
        disconnected: &HashSet<u64>,
        outcome: &mut Outcome,
    ) -> Result<(), crate::Error> {
        let overdue: HashMap<u64, Connection> = wanted
            .iter()
            .filter(|(_, connection)| {
                matches!(self.stages.get(&key(connection)), Some(Stage::Since(since)) if since.elapsed() >= GIVE_UP)
            })
            .map(|(cookie, connection)| (*cookie, *connection))
            .collect();
        // Those that were seen have no connection any more.
        let hidden: HashSet<u64> =
            overdue.keys().filter(|cookie| !disconnected.contains(cookie)).copied().collect();
        outcome.not_found += hidden.len();
        if !hidden.is_empty() {
            find_sockets(&hidden, |_, socket| {
                let Ok(namespace) = socket.namespace() else { return };
                let work = Work { tables: &self.tables, wanted: &overdue, storage: false };
                let found = work.run_in(&namespace, outcome);
                outcome.not_found = outcome.not_found.saturating_sub(found.closed.len());
            })?;
        }
        if outcome.problem.is_none() {
            self.stages.extend(overdue.values().map(|connection| (key(connection), Stage::Over)));
        }
        Ok(())
    }

    /// Frees the slots of sockets that are gone and never ran the release hook: those of the kernel (NFS, Ceph, the
    /// subflows of MPTCP).
    ///
    /// A slot is freed if its owner was in no list of sockets at two audits in a row, nothing in it has changed in
    /// between, and no process has a descriptor of the owner. Sockets live that are in no list; what becomes of them:
    ///
    /// - *A connect between its hook and the kernel's table*, which takes microseconds: it would have to be there at both
    ///   audits, an audit interval apart, with the same content of the slot; a connect writes a new one.
    /// - *UDP that was disconnected, by the application or by us*, and TCP that was refused or reset: what its slot says
    ///   is over. getpeername fails with ENOTCONN without a hook, datagrams that wait are shown as they came
    ///   (`datapath::reply`), and whatever it does next begins by forgetting, or chooses anew.
    /// - *UDP that has only sent and was then unbound* (connect to AF_UNSPEC): datagrams may wait whose source its slot
    ///   knows, and R8 holds for what it sends next. Slots of that kind are never freed, as not every process need let us
    ///   see its descriptors. No leak is known that makes such.
    /// - *Sockets whose namespace nothing leads to but a descriptor*: the look at all descriptors finds them. Left are
    ///   those on their way in a message, and those in io_uring alone, in a namespace that no thread is in. For these
    ///   getpeername would show the backend.
    /// - *Sockets of processes that can't be seen from here*: if there may be any, nothing is freed.
    ///
    /// Should one of these stir while its slot is being freed, `kernel::Slots::free` leaves it alone.
    fn free_slots(&mut self, outcome: &mut Outcome) -> Result<(), crate::Error> {
        // First who has a slot, then who is there: who comes in between is none of these.
        let mut left: HashMap<u64, Owned> = self
            .tables
            .slots
            .owned()
            .filter(|owned| !owned.is_unconnected())
            .map(|owned| (owned.cookie, owned))
            .collect();
        let before = std::mem::take(&mut self.absent);
        if left.is_empty() {
            return Ok(());
        }
        let mut failed = None;
        let visited = visit(|namespace| {
            match namespace.run(cookies).and_then(|cookies| cookies) {
                Ok(cookies) => left.retain(|cookie, _| !cookies.contains(cookie)),
                Err(error) => failed = Some(error),
            }
            if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        if visited.incomplete {
            tracing::debug!("not every process can be seen from here: slots are not audited");
            return Ok(());
        }
        let mut gone = left.clone();
        gone.retain(|cookie, owned| before.get(cookie) == Some(owned));
        outcome.suspects = gone.len() < left.len();
        if !gone.is_empty() {
            let cookies = gone.keys().copied().collect();
            find_sockets(&cookies, |cookie, _| {
                gone.remove(&cookie);
            })?;
            outcome.freed += self.tables.slots.free(&gone.into_values().collect::<Vec<_>>());
        }
        self.absent = left;
        Ok(())
    }
}

impl Tables {
    /// Is this socket ours to close if its backend goes? Unconnected ones choose anew by themselves.
    fn concerns(&self, connection: &Connection) -> bool {
        connection.connected
            && (connection.protocol == abi::UDP || (self.reset_tcp && connection.protocol == abi::TCP))
    }

    /// What the slots hold of that kind, by cookie.
    fn stale(&self) -> Result<HashMap<u64, Connection>, kernel::Error> {
        let mut backends: HashMap<u32, Option<Backend>> = HashMap::new();
        let mut stale = HashMap::new();
        for connection in self.slots.connections().filter(|connection| self.concerns(connection)) {
            let index = connection.ids.backend;
            let backend = match backends.get(&index) {
                Some(known) => *known,
                None => *backends.entry(index).or_insert(self.maps.backend(index)?),
            };
            if !connection.may_stay(backend.as_ref()) {
                stale.insert(connection.cookie, connection);
            }
        }
        Ok(stale)
    }

    /// Of these sockets, by inode, ends the connections that are stale by what their storage says. The way to that is a
    /// descriptor.
    fn close_stored(
        &self,
        sockets: &HashMap<u64, InetSocket>,
        outcome: &mut Outcome,
    ) -> Result<(), crate::Error> {
        if sockets.is_empty() {
            return Ok(());
        }
        visit_sockets(
            |inode| sockets.contains_key(&inode),
            |open| {
                match self.close_stored_socket(sockets, open) {
                    Ok(closed) => outcome.closed.extend(closed),
                    Err(error) => drop(outcome.problem.get_or_insert_with(|| error.to_string())),
                }
                ControlFlow::Continue(())
            },
        )?;
        Ok(())
    }

    fn close_stored_socket(
        &self,
        sockets: &HashMap<u64, InetSocket>,
        open: &OpenSocket,
    ) -> Result<Option<Closed>, crate::Error> {
        let Ok(cookie) = open.cookie() else { return Ok(None) };
        let Some(socket) = sockets.get(&open.inode()).filter(|socket| socket.cookie() == cookie) else {
            return Ok(None);
        };
        for connection in self.maps.stored(cookie, open.as_fd())? {
            if self.concerns(&connection)
                && stands_on(socket, &connection)
                && !connection.may_stay(self.maps.backend(connection.ids.backend)?.as_ref())
                && let Ok(namespace) = open.namespace()
            {
                let done = namespace.run(|| destroy(&mut SockDiag::open()?, socket, connection));
                return Ok(done.and_then(|done| done)?);
            }
        }
        Ok(None)
    }
}

/// What was found in one namespace.
#[derive(Default)]
struct Found {
    /// Cookies of sockets that are dealt with.
    closed: Vec<u64>,
    /// Of those that are there, and not connected to where their slot says.
    disconnected: Vec<u64>,
    /// Connected ones of which their storage may tell.
    storing: Vec<InetSocket>,
}

/// What is to be done in each namespace.
struct Work<'a> {
    tables: &'a Tables,
    wanted: &'a HashMap<u64, Connection>,
    storage: bool,
}

impl Work<'_> {
    fn run_in(&self, namespace: &OpenNamespace, outcome: &mut Outcome) -> Found {
        let mut found = Found::default();
        let done = namespace.run(|| self.close(&mut found, &mut outcome.closed)).and_then(|done| done);
        if let Err(error) = done {
            outcome.problem.get_or_insert_with(|| error.to_string());
        }
        found
    }

    /// In the namespace of the calling thread.
    fn close(&self, found: &mut Found, closed: &mut Vec<Closed>) -> Result<(), host::Error> {
        let mut diag = SockDiag::open()?;
        let mut stale = Vec::new();
        let mut see = |socket: InetSocket| {
            let cookie = socket.cookie();
            let wanted = self
                .wanted
                .get(&cookie)
                .filter(|connection| connection.protocol == socket.transport.number());
            if let Some(connection) = wanted.filter(|connection| stands_on(&socket, connection)) {
                stale.push((socket, *connection));
                return;
            }
            if wanted.is_some() {
                found.disconnected.push(cookie);
            }
            let is_open = OPEN & 1 << socket.state != 0 && socket.inode != 0;
            if self.storage && is_open && self.tables.slots.uses_storage(cookie) {
                found.storing.push(socket);
            }
        };
        diag.list(Transport::Udp, u32::MAX, &mut see)?;
        if self.tables.reset_tcp {
            diag.list(Transport::Tcp, OPEN, &mut see)?;
        }
        for (socket, connection) in stale {
            // It may have connected again by now: even to the same address, and then of its own accord.
            if self.tables.slots.connection(connection.cookie).as_ref() == Some(&connection)
                && let Some(done) = destroy(&mut diag, &socket, connection)?
            {
                closed.push(done);
                found.closed.push(connection.cookie);
            }
        }
        Ok(())
    }
}

/// In the namespace of the calling thread, which must be the socket's; `None` = it is gone.
fn destroy(
    diag: &mut SockDiag,
    socket: &InetSocket,
    connection: Connection,
) -> Result<Option<Closed>, host::Error> {
    let netns = || NetworkNamespace::own().ok().and_then(|own| own.cookie);
    Ok(diag.destroy(socket)?.then(|| Closed { connection, local: socket.local, netns: netns() }))
}

/// Is the socket connected to where this connection went?
fn stands_on(socket: &InetSocket, connection: &Connection) -> bool {
    connection.protocol == socket.transport.number()
        && OPEN & 1 << socket.state != 0
        && socket.remote == connection.backend.socket_addr()
}

/// Cookies of all sockets in the calling thread's namespace.
fn cookies() -> Result<HashSet<u64>, host::Error> {
    let mut diag = SockDiag::open()?;
    let mut cookies = HashSet::new();
    for transport in [Transport::Udp, Transport::Tcp] {
        diag.list(transport, !NO_SOCKET, |socket| {
            cookies.insert(socket.cookie());
        })?;
    }
    Ok(cookies)
}
