//! What goes wrong with a server.

use std::time::Duration;

use tokio::time;

use super::{
    access::{chain, is_of_trust},
    line::Failure,
};

/// For how long an answer may be awaited.
pub(super) const ANSWER: Duration = Duration::from_secs(30);

/// What went wrong.
pub(super) enum Fault {
    /// No answer, or half of one.
    Broken(String),
    /// No answer, since one does not trust the other, or nobody says who we are.
    Untrusted(String),
    /// The server says no.
    Refused(Failure),
    Unheard,
}

impl From<kube::Error> for Fault {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => {
                let seconds = status.details.as_ref().map(|details| details.retry_after_seconds);
                let seconds = seconds.filter(|seconds| *seconds > 0).map(u64::from);
                Self::Refused(Failure::new(status.code, &status.reason, &status.message, seconds))
            }
            error if is_of_trust(&error) => Self::Untrusted(chain(&error)),
            error => Self::Broken(chain(&error)),
        }
    }
}

/// A line without its end.
pub(super) const CUT: &str = "the answer broke off";

/// The answer can't be read.
pub(super) fn broken(error: serde_json::Error) -> Fault {
    Fault::Broken(format!("the answer is not what it should be: {error}"))
}

/// An answer, if it comes in time.
pub(super) async fn within<T>(limit: Duration, answer: impl Future<Output = T>) -> Result<T, Fault> {
    let late = |_| Fault::Broken(format!("does not answer within {} s", limit.as_secs()));
    time::timeout(limit, answer).await.map_err(late)
}
