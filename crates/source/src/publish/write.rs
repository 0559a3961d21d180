//! One request to the API server that writes, or looks whether it has to, and what came of it.

use std::{sync::Arc, time::Duration};

use http::Request;
use kube::core::request::Error as RequestError;
use serde_json::Value;
use tokio::time;

use crate::kubernetes::{Servers, chain};

/// For how long an answer may be awaited.
const ANSWER: Duration = Duration::from_secs(10);
/// Characters of what a server says that are told.
const LONGEST: usize = 300;

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no such thing.
    Missing,
    /// There is one already.
    Exists,
    /// Somebody else has it, or has just changed it.
    Taken,
    /// We may not.
    Forbidden(String),
    /// It makes no sense to try again.
    Refused(String),
    /// It may be possible later; the server may say when.
    Later(Option<Duration>, String),
}

/// What writes to the servers that a source follows: to the one in use. Clones write to the same.
#[derive(Clone, Debug)]
pub struct Writer {
    servers: Arc<Servers>,
}

impl Writer {
    pub(crate) fn new(servers: Arc<Servers>) -> Self {
        Self { servers }
    }

    /// Sends a request; the object that is the answer.
    ///
    /// # Errors
    /// What came of it instead.
    pub async fn send(&self, request: Result<Request<Vec<u8>>, RequestError>) -> Result<Value, Failure> {
        send(&self.servers, request).await
    }
}

/// Asks the server that is in use.
pub(super) async fn send(
    servers: &Servers,
    request: Result<Request<Vec<u8>>, RequestError>,
) -> Result<Value, Failure> {
    let request = request.map_err(|error| Failure::Refused(chain(&error)))?;
    let Some(server) = servers.current() else { return Err(Failure::Later(None, "no server".into())) };
    match time::timeout(ANSWER, server.client.request(request)).await {
        Ok(Ok(object)) => Ok(object),
        Ok(Err(kube::Error::Api(status))) => {
            let seconds = status.details.as_ref().map(|details| details.retry_after_seconds);
            let asked = seconds.filter(|seconds| *seconds > 0).map(|it| Duration::from_secs(it.into()));
            Err(failure(status.code, &status.reason, &status.message, asked))
        }
        Ok(Err(error)) => Err(Failure::Later(None, chain(&error))),
        Err(_) => Err(Failure::Later(None, format!("does not answer within {} s", ANSWER.as_secs()))),
    }
}

fn failure(code: u16, reason: &str, message: &str, asked: Option<Duration>) -> Failure {
    let said = || message.chars().take(LONGEST).collect::<String>();
    match code {
        404 => Failure::Missing,
        409 if reason == "AlreadyExists" => Failure::Exists,
        409 => Failure::Taken,
        // It is no matter of rights: the namespace goes, and what is in it.
        403 if message.contains("being terminated") => Failure::Refused(said()),
        403 => Failure::Forbidden(said()),
        400 | 405..=408 | 410..=428 => Failure::Refused(format!("{code} {reason}: {}", said())),
        _ => Failure::Later(asked, format!("answers {code} {reason}: {}", said())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_say_whether_to_try_again() {
        let of = |code, message| failure(code, "Reason", message, None);
        assert_eq!((of(404, ""), of(409, "")), (Failure::Missing, Failure::Taken));
        assert_eq!(failure(409, "AlreadyExists", "", None), Failure::Exists);
        assert_eq!(of(403, "nodes"), Failure::Forbidden("nodes".into()));
        assert!(matches!(of(403, "because it is being terminated"), Failure::Refused(_)));
        assert!(matches!((of(400, ""), of(422, "")), (Failure::Refused(_), Failure::Refused(_))));
        for code in [401, 429, 500, 503, 504] {
            assert!(matches!(of(code, ""), Failure::Later(None, _)), "{code}");
        }
        assert!(matches!(of(500, &"x".repeat(1000)), Failure::Later(_, said) if said.len() < 400));
    }
}
