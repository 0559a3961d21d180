//! The event log on unix stream sockets: whoever connects gets each new line. On one thread of its own.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use observe::{Line, Refused};
use tokio::{
    io::AsyncReadExt,
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, broadcast::WeakSender, watch},
    task::JoinSet,
    time::{interval, sleep, timeout},
};

use super::{
    follower::Follower,
    sink::{Failure, RETRY, Standing},
};

/// Readers of one socket at once; who comes when there are as many is told so.
const READERS: usize = 16;
/// How long a reader may take nothing while there is something for it.
const STUCK: Duration = Duration::from_secs(60);
/// How often it is looked whether the socket is still there.
const LOOK: Duration = Duration::from_secs(2);
/// How long readers are given at the end to take what waits for them.
const END: Duration = Duration::from_millis(500);

/// A socket that is served.
pub(crate) struct Socket {
    pub(crate) path: PathBuf,
    /// Its permissions.
    pub(crate) mode: u32,
    pub(crate) standing: Standing,
    /// How long a reader may take nothing while there is something for it.
    pub(crate) stuck: Duration,
}

impl Socket {
    /// At `path`, with these permissions.
    pub(crate) fn new(path: PathBuf, mode: u32, standing: Standing) -> Self {
        Self { path, mode, standing, stuck: STUCK }
    }
}

/// Begins to serve sockets, until the sender is dropped; the receiver ends when readers have what there was.
pub(crate) fn start(
    sockets: Vec<Socket>,
    lines: &WeakSender<Arc<str>>,
    node: &str,
) -> std::io::Result<(watch::Sender<()>, mpsc::Receiver<()>)> {
    let (end, ending) = watch::channel(());
    let (alive, ended) = mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut serving = JoinSet::new();
    for socket in sockets {
        serving.spawn_on(serve(socket, lines.clone(), node.to_owned(), ending.clone()), runtime.handle());
    }
    thread::Builder::new().name("event-sockets".into()).spawn(move || {
        let _alive = alive;
        runtime.block_on(async { while serving.join_next().await.is_some() {} });
    })?;
    Ok((end, ended))
}

async fn serve(socket: Socket, lines: WeakSender<Arc<str>>, node: String, mut ending: watch::Receiver<()>) {
    let permits = Arc::new(Semaphore::new(READERS));
    let mut readers = JoinSet::new();
    let accepting = async {
        loop {
            let (listener, id) = match bind(&socket.path, socket.mode) {
                Ok(bound) => bound,
                Err(failure) => {
                    socket.standing.fails(&failure);
                    sleep(RETRY).await;
                    continue;
                }
            };
            socket.standing.works();
            let mut look = interval(LOOK);
            while id_of(&socket.path) == Some(id) {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = look.tick() => continue,
                };
                match (accepted, lines.upgrade()) {
                    (Ok((stream, _)), Some(lines)) => {
                        let Ok(permit) = permits.clone().try_acquire_owned() else {
                            socket.standing.turned_away(READERS);
                            turn_away(&stream, &node);
                            continue;
                        };
                        let name = socket.standing.get().name;
                        let follower = Follower::new(lines.subscribe(), &node, &name);
                        socket.standing.came();
                        readers.spawn(read(stream, follower, socket.standing.clone(), socket.stuck, permit));
                        while readers.try_join_next().is_some() {}
                    }
                    (Ok(_), None) => return,
                    (Err(error), _) => {
                        socket.standing.fails(&Failure::of("accept", &socket.path)(error));
                        sleep(RETRY).await;
                    }
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = ending.changed() => {}
    }
    let _ = timeout(END, async { while readers.join_next().await.is_some() {} }).await;
    let _ = fs::remove_file(&socket.path);
}

/// Says why there is nothing for this reader. What a new connection does not take at once it is not told.
fn turn_away(stream: &UnixStream, node: &str) {
    let why = format!("there are {READERS} readers already, as many as one socket has; let one of them go");
    if let Ok(line) = serde_json::to_string(&Line::Refused(Refused::new(node, &why))) {
        let _ = stream.try_write(format!("{line}\n").as_bytes());
    }
}

/// Until the reader goes, takes nothing for too long, or there are no more lines.
async fn read(
    stream: UnixStream,
    lines: Follower,
    standing: Standing,
    stuck: Duration,
    _permit: OwnedSemaphorePermit,
) {
    let (mut from, mut to) = stream.into_split();
    let gone = async {
        let mut said = [0; 64];
        // What readers say is nobody's business.
        while matches!(from.read(&mut said).await, Ok(1..)) {}
    };
    let outcome = tokio::select! {
        () = gone => Ok(()),
        // Who goes away is no error of ours.
        outcome = lines.pass_on(&mut to, stuck, |written, lost| standing.add(written, lost)) => outcome,
    };
    standing.went(outcome.is_err_and(|error| error.kind() == ErrorKind::TimedOut));
}

/// A socket at `path` that nobody could connect to before it had its permissions, in the place of one that was there.
fn bind(path: &Path, mode: u32) -> Result<(UnixListener, (u64, u64)), Failure> {
    if fs::symlink_metadata(path).is_ok_and(|it| !it.file_type().is_socket()) {
        return Err(Failure::of("bind", path)(ErrorKind::AlreadyExists.into()));
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(Failure::of("mkdir", directory))?;
    }
    let mut draft = path.to_owned().into_os_string();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    // Of an agent that was killed.
    let _ = fs::remove_file(&draft);
    let listener = UnixListener::bind(&draft).map_err(Failure::of("bind", path))?;
    fs::set_permissions(&draft, fs::Permissions::from_mode(mode)).map_err(Failure::of("chmod", &draft))?;
    fs::rename(&draft, path).map_err(Failure::of("rename", &draft))?;
    let id = id_of(path).ok_or_else(|| Failure::of("stat", path)(ErrorKind::NotFound.into()))?;
    Ok((listener, id))
}

fn id_of(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|it| (it.dev(), it.ino()))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        os::unix::net::UnixStream,
        time::Instant,
    };

    use tokio::sync::broadcast;

    use super::*;

    fn connect(path: &Path) -> BufReader<UnixStream> {
        let begun = Instant::now();
        loop {
            match UnixStream::connect(path) {
                Ok(stream) => return BufReader::new(stream),
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(10), "{error}"),
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn wait_for(lines: &broadcast::Sender<Arc<str>>, readers: usize) {
        while lines.receiver_count() < readers {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn line(reader: &mut BufReader<UnixStream>) -> String {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line
    }

    #[test]
    fn whoever_connects_gets_what_comes_and_the_socket_comes_back_if_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/events.sock");
        let (lines, _) = broadcast::channel(8);
        let standing = Standing::new(&"socket:x");
        let socket = Socket::new(path.clone(), 0o640, standing.clone());
        let (end, ended) = start(vec![socket], &lines.downgrade(), "n1").unwrap();
        let send = |text: &str| drop(lines.send(Arc::from(text)));
        let mut one = connect(&path);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        wait_for(&lines, 1);
        send("1");
        let mut two = connect(&path);
        wait_for(&lines, 2);
        send("2");
        assert_eq!([line(&mut one), line(&mut one), line(&mut two)], ["1\n", "2\n", "2\n"]);
        // Who goes is forgotten.
        drop(one);
        while lines.receiver_count() > 1 {
            thread::sleep(Duration::from_millis(1));
        }
        fs::remove_file(&path).unwrap();
        let mut three = connect(&path);
        wait_for(&lines, 2);
        send("3");
        drop((lines, end));
        assert_eq!([line(&mut two), line(&mut three), line(&mut three)], ["3\n", "3\n", ""]);
        ended.recv().unwrap_err();
        assert!(!path.exists());
        assert_eq!(standing.get().written, 5);
    }

    #[test]
    fn who_is_one_too_many_is_told_so_and_who_takes_nothing_is_sent_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.sock");
        let (lines, _) = broadcast::channel(64);
        let standing = Standing::new(&"socket:x");
        let socket =
            Socket { stuck: Duration::from_millis(50), ..Socket::new(path.clone(), 0o600, standing.clone()) };
        let (end, ended) = start(vec![socket], &lines.downgrade(), "n1").unwrap();
        let all: Vec<_> = (0..READERS).map(|_| connect(&path)).collect();
        wait_for(&lines, READERS);
        assert_eq!(standing.get().readers, Some(READERS));
        let told = line(&mut connect(&path));
        assert!(told.contains("\"refused\":\"there are 16 readers already"), "{told:?}");
        assert_eq!(standing.get().turned_away, 1);
        // Nobody reads; more than the kernel keeps for them.
        let large: Arc<str> = "x".repeat(1 << 20).into();
        drop(lines.send(large));
        while standing.get().readers != Some(0) {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(standing.get().sent_away, READERS as u64);
        let mut next = connect(&path);
        wait_for(&lines, 1);
        drop(lines.send("y".into()));
        assert_eq!(line(&mut next), "y\n");
        drop((all, lines, end));
        ended.recv().unwrap_err();
    }

    #[tokio::test]
    async fn a_file_in_its_place_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mine");
        fs::write(&path, "mine").unwrap();
        let error = bind(&path, 0o600).unwrap_err().to_string();
        assert!(error.starts_with("bind ") && error.contains("mine"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
