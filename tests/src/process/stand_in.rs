//! A stand-in for the agent: says on its socket what a test wants to be said.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use agent::local::{PortEndpoints, Request};
use anyhow::{Context, Result};
use serde_json::{Value, json};

/// What it says.
#[derive(Clone, Debug)]
pub struct Lines {
    /// Of usage: an `observe::Usage`.
    pub usage: Value,
    /// Of itself: an [`agent::Status`].
    pub status: Value,
    /// Of endpoints: those of the service that is asked about, or all.
    pub endpoints: Vec<PortEndpoints>,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            usage: json!({"time": null, "seconds": 0.0, "clients": [], "backends": [], "unattributed": 0}),
            status: json!({
                "version": "0.1.0", "pid": 1, "uptimeSeconds": 60, "node": "n1", "zone": null, "cgroup": "/sys/fs/cgroup",
                "hooks": [], "sources": [], "objects": [], "frontends": 0, "backends": 0, "maps": [], "decisions": [],
                "paused": false, "events": "failures", "eventsLost": 0, "rounds": 0, "auditDifferences": 0, "problems": [],
                "notices": []
            }),
            endpoints: Vec::new(),
        }
    }
}

/// One that answers until it is dropped.
pub struct StandIn {
    socket: PathBuf,
    lines: Arc<Mutex<Lines>>,
    is_over: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

impl StandIn {
    /// Answers on `socket`.
    ///
    /// # Errors
    /// It can't be bound.
    pub fn serve(socket: &Path, lines: Lines) -> Result<Self> {
        // One that has gone leaves it behind, as an agent that is killed does.
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).with_context(|| format!("bind {}", socket.display()))?;
        let (lines, is_over) = (Arc::new(Mutex::new(lines)), Arc::new(AtomicBool::new(false)));
        let (said, ended) = (lines.clone(), is_over.clone());
        let serving = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let lines = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // Who goes away in the middle is no error of ours.
                let _ = answer(&stream, &lines);
            }
        });
        Ok(Self { socket: socket.to_owned(), lines, is_over, serving: Some(serving) })
    }

    /// Says something else from now on.
    pub fn change(&self, change: impl FnOnce(&mut Lines)) {
        change(&mut self.lines.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // So that it looks.
        let _ = UnixStream::connect(&self.socket);
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

fn answer(mut stream: &UnixStream, lines: &Lines) -> Result<()> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let answer = match serde_json::from_str(&line)? {
        Request::Usage => lines.usage.clone(),
        Request::Status => lines.status.clone(),
        Request::Endpoints { service, .. } => {
            let is_it = |it: &&PortEndpoints| {
                let name = (it.namespace.as_str(), it.service.as_str());
                service.as_ref().is_none_or(|(namespace, service)| name == (namespace, service))
            };
            serde_json::to_value(lines.endpoints.iter().filter(is_it).collect::<Vec<_>>())?
        }
        other => anyhow::bail!("nobody has said what to answer to {other:?}"),
    };
    Ok(writeln!(stream, "{answer}")?)
}
