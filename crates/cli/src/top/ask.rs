//! Asking the agent for a picture.

use agent::local::{self, AskError, PortEndpoints, Request, Traffic};

use super::{
    rates::Rates,
    view::{Answers, Stepped, View},
};
use crate::{get, place::Place, target::Target};

/// Whose endpoints are to be asked for.
pub(super) enum Endpoints {
    /// Those of all services and policies: once, not again and again.
    All,
    /// Those of one service, by namespace and name, or of a policy ([`local::policy_name`]).
    Of(String, String),
    None,
}

/// Asks for a picture. `rates` are those of all pictures of one viewer.
pub(super) fn ask(place: &Place, endpoints: &Endpoints, rates: &mut Rates) -> Result<View, AskError> {
    let usage: observe::Usage = local::ask_one(&place.socket, &Request::Usage)?;
    let usage = rates.apply(usage);
    let status = local::status(&place.socket)?;
    let service = match endpoints {
        Endpoints::All => Some(None),
        Endpoints::Of(namespace, name) => Some(Some((namespace.clone(), name.clone()))),
        Endpoints::None => None,
    };
    let endpoints: Vec<PortEndpoints> = match service {
        Some(service) => {
            local::ask_one(&place.socket, &Request::Endpoints { service, traffic: Traffic::Internal })?
        }
        None => Vec::new(),
    };
    Ok(View::new(&Answers { usage, status, endpoints, policies: stepped(place) }))
}

/// What policies did not take. It is the kernel's to tell; where that can't be asked, nothing is known.
fn stepped(place: &Place) -> Vec<Stepped> {
    let policies = place.maps().ok().and_then(|maps| get::stepped(&maps).ok());
    let stepped = policies.into_iter().flatten().map(|((kind, name), words)| Stepped {
        policy: Target::Policy { kind: kind.into(), name },
        fallbacks: words.fallbacks,
        spills: words.spills,
        own: words.own,
    });
    stepped.collect()
}
