//! Whether the kernel, the memory and the rules agree: in what their tables say, and in what sockets meet.

use std::net::SocketAddr;

use abi::{Reason, Verdict};
use agent::explain::Explanation;
use anyhow::{Context, Result, ensure};
use balancing_tests::world::{Candidates, Outcome};

use super::known::{Expected, Known};

/// The kernel's tables, those in memory, and the rules agree.
pub(super) fn check(
    known: &Known,
    found: &Explanation,
    candidates: &Candidates,
    expected: &Expected,
) -> Result<()> {
    let about = || format!("expected {expected:?}, found {found:?} in the kernel, {candidates:?} in memory");
    match candidates {
        Ok(some) => ensure!(some.iter().eq(found.backends.iter()) && found.verdict == "translated", about()),
        Err(reason) => ensure!(found.backends.is_empty() && found.reason == reason.name(), about()),
    }
    match expected {
        Expected::Is(reason) => ensure!(found.reason == reason.name(), about()),
        Expected::Of(n, is_internal) => {
            let said = known.services.get(n).with_context(about)?;
            let is_right = match candidates {
                Ok(_) => true,
                Err(Reason::NoEndpoints) => true,
                Err(Reason::NoLocalEndpoint) => *is_internal && said.is_internal_local,
                Err(_) => false,
            };
            ensure!(is_right, about());
            let service = found.service.as_ref().with_context(about)?;
            ensure!(service.name == format!("s{n}"), about());
            ensure!(found.affinity_seconds.is_some() == said.has_affinity, about());
        }
    }
    Ok(())
}

pub(super) fn kind(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Answered { .. } => "answered",
        Outcome::Refused => "refused",
        Outcome::Unreachable => "unreachable",
        Outcome::Denied => "denied",
        Outcome::NoMemory => "no memory",
        Outcome::Nobody => "nobody",
    }
}

/// What a new connection meets.
pub(super) fn verdict(candidates: &Candidates) -> &'static str {
    match candidates {
        Ok(_) => "answered",
        Err(Reason::BrokenTable | Reason::NoMemory) => "broken",
        Err(reason) => match reason.verdict() {
            Verdict::Refused => "refused",
            Verdict::Unreachable => "unreachable",
            Verdict::Denied => "denied",
            Verdict::Passed | Verdict::Translated => "nobody",
        },
    }
}

/// What a new connection to an address meets.
pub(super) fn meets(candidates: &Candidates, to: SocketAddr) -> &'static str {
    match verdict(candidates) {
        // It arrives, and nobody listens.
        "nobody" if to.ip().is_loopback() => "refused",
        verdict => verdict,
    }
}

pub(super) fn agree(
    outcomes: [Outcome; 2],
    to: SocketAddr,
    expected: &str,
    candidates: &Candidates,
) -> Result<()> {
    let [kernel, memory] = outcomes;
    ensure!(kind(kernel) == kind(memory), "{kernel:?} in the kernel, {memory:?} in memory");
    ensure!(kind(kernel) == expected, "{kernel:?}, but {candidates:?}");
    for outcome in outcomes {
        if let Outcome::Answered { backend, shown } = outcome {
            ensure!(shown == to, "R9: {backend} is shown as {shown}");
            let right = candidates.as_ref().is_ok_and(|candidates| candidates.contains(&backend));
            ensure!(right, "reached {backend}, not of {candidates:?}");
        }
    }
    Ok(())
}
