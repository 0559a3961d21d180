//! One question over the network, from the agent's own network namespace.

use std::{fmt, fmt::Write as _, io, ops::RangeInclusive, time::Duration};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{
    Request,
    client::conn::http1,
    header::{CONNECTION, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use model::ProbeAction;
use rustix::io::Errno;
use tokio::{net::TcpStream, time::timeout};

use super::schedule::Question;

/// A redirect is an answer: whoever sends it is well. It is not followed.
const GOOD: RangeInclusive<u16> = 200..=399;

/// What came of a question.
pub(super) type Answer = Result<(), Failure>;

/// No good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody listens.
    Refused,
    /// It did not answer in time.
    TimedOut(Duration),
    /// It can't be reached, in the system's words.
    Unreachable(String),
    /// It answered, and not well.
    Status(u16),
    /// It did not answer in HTTP, or hung up.
    NotHttp(String),
    /// This machine had no room to ask, in the system's words: nothing is known.
    Unasked(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("it refuses connections"),
            Self::TimedOut(after) => write!(f, "no answer within {} s", after.as_secs()),
            Self::Unreachable(error) => write!(f, "it can't be reached: {error}"),
            Self::Status(status) => write!(f, "it answers with status {status}"),
            Self::NotHttp(error) => write!(f, "its answer is no HTTP: {error}"),
            Self::Unasked(error) => write!(f, "there is no room to ask it: {error}"),
        }
    }
}

/// What is counted.
pub(super) fn outcome(answer: &Answer) -> &'static str {
    match answer {
        Ok(()) => "good",
        Err(Failure::Refused) => "refused",
        Err(Failure::TimedOut(_)) => "timeout",
        Err(Failure::Unreachable(_)) => "unreachable",
        Err(Failure::Status(_)) => "status",
        Err(Failure::NotHttp(_)) => "not-http",
        Err(Failure::Unasked(_)) => "unasked",
    }
}

/// Asks.
pub(super) async fn ask(question: &Question) -> Answer {
    let within = question.probe.timeout;
    timeout(within, converse(question)).await.unwrap_or(Err(Failure::TimedOut(within)))
}

async fn converse(question: &Question) -> Answer {
    let stream = TcpStream::connect(question.address).await.map_err(|error| failure(&error))?;
    match &question.probe.action {
        ProbeAction::Tcp => Ok(()),
        ProbeAction::Http(path) => get(stream, question, path).await,
    }
}

/// No further than the headers of the answer, and to nowhere else.
async fn get(stream: TcpStream, question: &Question, path: &str) -> Answer {
    let not_http = |error: &dyn std::error::Error| Failure::NotHttp(error.to_string());
    let request = Request::get(encoded(path))
        .header(HOST, question.address.to_string())
        .header(USER_AGENT, concat!("balancing/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| not_http(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| not_http(&error))?;
    // One that ends without an answer says so to the sender.
    let status = tokio::select! {
        biased;
        answer = sender.send_request(request) => answer.map_err(|error| not_http(&error))?.status(),
        Err(error) = connection => return Err(not_http(&error)),
    };
    if GOOD.contains(&status.as_u16()) { Ok(()) } else { Err(Failure::Status(status.as_u16())) }
}

fn failure(error: &io::Error) -> Failure {
    match Errno::from_io_error(error) {
        Some(Errno::CONNREFUSED) => Failure::Refused,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => {
            Failure::Unasked(error.to_string())
        }
        _ => Failure::Unreachable(error.to_string()),
    }
}

/// What hyper takes for a path: schemas allow all that can be seen.
fn encoded(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&byte) {
            encoded.push(byte.into());
        } else {
            // A String takes everything.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests;
