//! What becomes of a follower when something has gone wrong, and how long it waits.

use std::time::Duration;

use super::{Follower, Given};
use crate::{
    Place, Problem, Severity,
    kubernetes::{
        definition::is_defined,
        fault::Fault,
        line::Failure,
        pause::{chance, scattered},
        resource::Need,
        servers::Server,
    },
};

/// How often a server may forget what it said.
const FORGIVEN: u32 = 2;
/// How long those are waited for at the start that are not vital.
const PATIENCE: Duration = Duration::from_secs(10);
/// What an overloaded server asks for.
const OVERLOAD: Duration = Duration::from_secs(1);
/// Characters of what a server says that are told.
const LONGEST: usize = 300;
/// How soon to ask again for what a server does not have, or does not give us.
const UNAVAILABLE: Duration = Duration::from_secs(30);
/// How soon to ask again for what nobody has defined: most clusters never have it, and have thousands of agents.
const UNDEFINED: Duration = Duration::from_secs(60);

impl Follower {
    /// What to make of a fault; how long to wait.
    pub(super) fn after(&mut self, server: &Server, fault: Fault) -> Duration {
        self.is_suspicious = true;
        let (text, asked, may_be_other_with_another) = match fault {
            Fault::Refused(failure) => {
                if failure.is_of_version() {
                    return self.after_expiry(server, failure.retry_after());
                }
                if matches!(failure.code, 400 | 422) && self.streams && self.mirror.version().is_none() {
                    self.streams = false;
                    return Duration::ZERO;
                }
                if matches!(failure.code, 403 | 404)
                    && let Some(pause) = self.go_without(server, &failure)
                {
                    return pause;
                }
                let what = match failure.code {
                    401 => "does not know us: is the token or certificate still valid?".into(),
                    403 => format!(
                        "does not let us list and watch {}: {}",
                        self.resource.plural, failure.message
                    ),
                    code => format!("answers {code} {}: {}", failure.reason, failure.message),
                };
                let asked = failure.retry_after();
                // Overload is told by the header that we are not shown (Retry-After: 1).
                let asked = asked.or(matches!(failure.code, 429 | 503).then_some(OVERLOAD));
                (what, asked, !matches!(failure.code, 401 | 403 | 404 | 422))
            }
            Fault::Broken(text) | Fault::Untrusted(text) => (text, None, true),
            Fault::Unheard => return Duration::ZERO,
        };
        if may_be_other_with_another {
            self.servers.failed(server);
        }
        self.set_trouble(server, Severity::Error, &text);
        // Others are not to wait for what they can do without. What it would say may be in force all the same.
        if self.resource.need != Need::Vital && self.began.elapsed() > PATIENCE {
            self.given = self.given.max(Given::Enough);
        }
        self.pause.after_failure(asked)
    }

    /// A server that has forgotten what it said before has to say all of it again. If it forgets that too, something is wrong
    /// with it.
    pub(super) fn after_expiry(&mut self, server: &Server, asked: Option<Duration>) -> Duration {
        self.mirror.forget_version();
        self.expired += 1;
        if self.expired > FORGIVEN {
            self.servers.failed(server);
            self.set_trouble(
                server,
                Severity::Error,
                "forgets again and again what it has said a moment ago",
            );
        }
        self.pause.after_failure(asked)
    }

    /// What was said first stays until something works, or the same server says something else: several that fail would be
    /// told of in turn.
    fn set_trouble(&mut self, server: &Server, severity: Severity, text: &str) {
        let trouble = trouble(server, severity, text, "");
        if self.trouble.as_ref().is_none_or(|told| told.place == trouble.place) {
            self.trouble = Some(trouble);
        }
    }

    /// It is not to be had, and others can do without; how long to wait, if so. What was known of it stays.
    fn go_without(&mut self, server: &Server, failure: &Failure) -> Option<Duration> {
        let plural = self.resource.plural;
        let refused = format!("does not let us list and watch {plural}: {}", failure.message);
        self.trouble = Some(match (self.resource.need, failure.code) {
            (Need::Useful(loss), 404) => trouble(server, Severity::Notice, &format!("has no {plural}"), loss),
            (Need::Useful(loss), _) => trouble(server, Severity::Notice, &refused, loss),
            (Need::Defined { .. }, 403) => trouble(server, Severity::Error, &refused, UPGRADE),
            _ => return None,
        });
        self.mirror.forget_version();
        // Who waits for everything does not wait for this.
        self.given = Given::All;
        Some(scattered(UNAVAILABLE, chance()))
    }

    /// The server does not have it. Of what needs a definition that is believed only if the server itself says that it is not
    /// defined: whoever stands between may answer so, too, and policies are not to be lost by that. A server that starts
    /// answers 503 until it knows all definitions (kubernetes 1.36
    /// staging/src/k8s.io/apiserver/pkg/util/notfoundhandler/not_found_handler.go).
    pub(super) async fn after_absence(&mut self, server: &Server, failure: Failure) -> Duration {
        let defined = is_defined(&server.client, &self.resource).await;
        // Who may not ask believes it where it contradicts nothing.
        match defined.map(|defined| defined.unwrap_or(!self.mirror.is_empty())) {
            Ok(false) => {
                self.trouble = None;
                self.mirror.begin_list();
                self.batch.extend(self.mirror.end_list(""));
                self.mirror.forget_version();
                self.given = Given::All;
                if !self.batch.is_empty() {
                    tracing::warn!(
                        server = &*server.url,
                        "{} are no longer defined: all of them are gone",
                        self.resource.plural
                    );
                }
                scattered(UNDEFINED, chance())
            }
            Ok(true) => self.after(server, Fault::Refused(failure)),
            Err(fault) => self.after(server, fault),
        }
    }
}

/// What an error changes.
const KNOWN: &str = "what is known stays in force";
/// What to do where an older version was installed.
const UPGRADE: &str =
    "others have no effect until the ClusterRole of this version is applied (deploy/rbac.yaml, or the chart)";
/// `after`: what follows from what the server says.
fn trouble(server: &Server, severity: Severity, said: &str, after: &str) -> Problem {
    // Whoever stands between may answer with a page.
    let mut reason: String = said.chars().take(LONGEST).collect();
    let known = if severity == Severity::Error { KNOWN } else { "" };
    for part in [after, known].into_iter().filter(|part| !part.is_empty()) {
        reason += "; ";
        reason += part;
    }
    Problem { severity, place: Place::Server(server.url.clone()), line: None, object: None, reason }
}
