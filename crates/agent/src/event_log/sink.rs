//! What is written to a file or to standard output: on a thread of its own, which may be as slow as it likes. What fails is
//! tried again; meanwhile lines wait in the channel, and what that has no room for is counted.

use std::{
    fmt::Display,
    fs::File,
    io::{self, ErrorKind, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use super::{BEHIND, batch::Batch, follower::Follower};
use crate::status;

/// How long after a failure it is tried again.
pub(crate) const RETRY: Duration = Duration::from_millis(250);

/// Something could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{call} {}: {source}", path.display())]
pub(crate) struct Failure {
    call: &'static str,
    path: PathBuf,
    source: io::Error,
    /// When it is tried again.
    pause: Duration,
}

impl Failure {
    /// For `map_err`.
    pub(crate) fn of(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { call, path: path.to_owned(), source, pause: RETRY }
    }

    /// Of what is on another machine.
    #[cfg(feature = "otel")]
    pub(crate) fn remote(url: &str, why: String, pause: Duration) -> Self {
        Self { call: "send to", path: url.into(), source: io::Error::other(why), pause }
    }

    fn hint(&self) -> &'static str {
        match self.source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room there",
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "make that writable",
            ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::AlreadyExists => {
                "something else is in its place: remove that"
            }
            _ => "repair that",
        }
    }
}

/// How a sink is; shared with the agent's status.
#[derive(Clone, Debug)]
pub(crate) struct Standing(Arc<Mutex<status::EventSink>>);

impl Standing {
    pub(crate) fn new(name: &impl Display) -> Self {
        Self(Arc::new(Mutex::new(status::EventSink { name: name.to_string(), ..Default::default() })))
    }

    /// As it is now.
    pub(crate) fn get(&self) -> status::EventSink {
        self.lock().clone()
    }

    /// So many lines were written, so many are missing.
    pub(crate) fn add(&self, written: u64, lost: u64) {
        let mut sink = self.lock();
        sink.written += written;
        sink.lost += lost;
        if lost > 0 {
            tracing::warn!("events: {lost} are missing in {}, it was too slow", sink.name);
        }
    }

    /// A reader has come.
    pub(crate) fn came(&self) {
        *self.lock().readers.get_or_insert(0) += 1;
    }

    /// A reader has gone, or was sent away because it took nothing.
    pub(crate) fn went(&self, was_stuck: bool) {
        let mut sink = self.lock();
        sink.readers = sink.readers.map(|readers| readers.saturating_sub(1));
        if was_stuck {
            sink.sent_away += 1;
            tracing::warn!("events: a reader of {} took nothing for too long, and was sent away", sink.name);
        }
    }

    /// A reader was turned away: there were too many.
    pub(crate) fn turned_away(&self, most: usize) {
        let mut sink = self.lock();
        sink.turned_away += 1;
        tracing::warn!("events: {} has {most} readers already; one more was turned away", sink.name);
    }

    /// So many lines were refused.
    #[cfg(feature = "otel")]
    pub(crate) fn refused(&self, lost: u64, why: &str) {
        if lost > 0 {
            let mut sink = self.lock();
            sink.lost += lost;
            tracing::warn!("events: {} has refused {lost}: {why}", sink.name);
        }
    }

    /// It works.
    pub(crate) fn works(&self) {
        let mut sink = self.lock();
        if sink.problem.take().is_some() {
            tracing::info!("events: {} works again", sink.name);
        }
    }

    /// It does not.
    pub(crate) fn fails(&self, failure: &Failure) {
        let text = format!(
            "{failure}; {}, or choose another place with --event-log. Up to {BEHIND} lines wait until then, the rest is counted",
            failure.hint()
        );
        let mut sink = self.lock();
        if sink.problem.as_ref() != Some(&text) {
            tracing::error!("events: {}: {text}", sink.name);
            sink.problem = Some(text);
        }
    }

    fn lock(&self) -> MutexGuard<'_, status::EventSink> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where lines are written.
pub(crate) trait Output: Send + 'static {
    /// Writes all of the batch, or as much as it can, and says how many lines that were.
    fn write(&mut self, batch: &mut Batch, standing: &Standing) -> Result<(), Failure>;

    /// How long lines are gathered, where each writing costs more than waiting for more of them.
    fn gather(&self) -> Duration {
        Duration::ZERO
    }
}

/// Standard output.
pub(crate) struct Stdout(File);

impl Stdout {
    /// A descriptor of its own: unbuffered, and in nobody else's way.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self(io::stdout().as_fd().try_clone_to_owned()?.into()))
    }
}

impl Output for Stdout {
    fn write(&mut self, batch: &mut Batch, standing: &Standing) -> Result<(), Failure> {
        while !batch.rest().is_empty() {
            let bytes = write(&mut self.0, batch.rest())
                .map_err(Failure::of("write", Path::new("standard output")))?;
            standing.add(batch.wrote(bytes), 0);
        }
        Ok(())
    }
}

/// Writes some of it, and at least something.
pub(crate) fn write(out: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match out.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Begins to write all that comes. What is given ends with the thread, when no more will come and all is written.
pub(crate) fn start(
    mut coming: Follower,
    mut output: impl Output,
    standing: Standing,
) -> io::Result<mpsc::Receiver<()>> {
    let (alive, ended) = mpsc::channel();
    thread::Builder::new().name("events".into()).spawn(move || {
        let _alive = alive;
        let mut batch = Batch::default();
        while let Some(missing) = coming.next_blocking(&mut batch) {
            standing.add(0, missing);
            if !batch.is_large() && !output.gather().is_zero() {
                thread::sleep(output.gather());
                standing.add(0, coming.more(&mut batch));
            }
            while !batch.rest().is_empty() {
                match output.write(&mut batch, &standing) {
                    Ok(()) => standing.works(),
                    Err(failure) => {
                        standing.fails(&failure);
                        thread::sleep(failure.pause);
                    }
                }
            }
        }
    })?;
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use observe::event::Line;
    use tokio::sync::broadcast;

    use super::*;

    /// Writes as many bytes at once as it is let.
    struct Slow {
        lets: Receiver<usize>,
        text: Sender<Vec<u8>>,
    }

    impl Output for Slow {
        fn write(&mut self, batch: &mut Batch, standing: &Standing) -> Result<(), Failure> {
            let bytes = match self.lets.recv().unwrap_or(usize::MAX) {
                0 => return Err(Failure::of("write", Path::new("/x"))(ErrorKind::StorageFull.into())),
                bytes => bytes.min(batch.rest().len()),
            };
            self.text.send(batch.rest()[..bytes].to_vec()).unwrap();
            standing.add(batch.wrote(bytes), 0);
            Ok(())
        }
    }

    #[test]
    fn what_there_was_no_room_for_is_told_of_where_it_is_missing() {
        let (lines, coming) = broadcast::channel(4);
        let (lets, slow) = channel();
        let (text, out) = channel();
        let standing = Standing::new(&"file:/x");
        let ended =
            start(Follower::new(coming, "n1", "file:/x"), Slow { lets: slow, text }, standing.clone());
        let send = |name: &str| drop(lines.send(Arc::from(name)));
        send("first");
        // It is in the thread's hands when the first byte of it is written.
        lets.send(1).unwrap();
        assert_eq!(out.recv().unwrap(), b"f");
        for number in 0..10 {
            send(&number.to_string());
        }
        lets.send(0).unwrap();
        wait_until(|| standing.get().problem.is_some());
        assert!(standing.get().problem.unwrap().contains("make room there"));
        drop((lines, lets));
        ended.unwrap().recv().unwrap_err();
        let text = String::from_utf8(out.iter().flatten().collect()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines[0], &lines[2..]), ("irst", &["6", "7", "8", "9"][..]));
        let Line::Lost(lost) = serde_json::from_str(lines[1]).unwrap() else { panic!("{}", lines[1]) };
        assert_eq!((lost.lost, lost.at.as_str(), lost.node.as_str()), (6, "file:/x", "n1"));
        let standing = standing.get();
        // The line that tells of the loss is one too.
        assert_eq!((standing.written, standing.lost, standing.problem), (6, 6, None));
    }

    fn wait_until(mut is: impl FnMut() -> bool) {
        while !is() {
            thread::sleep(Duration::from_millis(1));
        }
    }
}
