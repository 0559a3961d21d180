//! Whether a resource that needs a definition has one.

use kube::Client;

use super::{
    fault::{ANSWER, Fault, within},
    resource::{Need, Resource},
};

/// A group that all servers have: a list of groups without it is not one of theirs.
const EVERYWHERE: &str = "discovery.k8s.io";

/// Does the server serve it, by its own lists of what it serves? `None`: we may not ask, though any user may
/// (`system:discovery`). What needs no definition counts as served.
///
/// # Errors
/// The server does not say.
pub(super) async fn is_defined(client: &Client, resource: &Resource) -> Result<Option<bool>, Fault> {
    let Need::Defined { group, version } = resource.need else { return Ok(Some(true)) };
    let groups = match within(ANSWER, client.list_api_groups()).await?.map_err(Fault::from) {
        Ok(list) => list.groups,
        Err(Fault::Refused(failure)) if failure.code == 403 => return Ok(None),
        Err(fault) => return Err(fault),
    };
    if !groups.iter().any(|group| group.name == EVERYWHERE) {
        return Ok(Some(true));
    }
    let mut versions = groups.iter().filter(|it| it.name == group).flat_map(|it| &it.versions);
    if !versions.any(|it| it.version == version) {
        return Ok(Some(false));
    }
    let group_version = format!("{group}/{version}");
    let served = within(ANSWER, client.list_api_group_resources(&group_version)).await??;
    Ok(Some(served.resources.iter().any(|it| resource.path.ends_with(&format!("/{}", it.name)))))
}
