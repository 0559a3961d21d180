//! v1 Namespace.

use k8s_openapi::api::core::v1;
use model::{Kind, Namespace};

use crate::{Invalid, Notice, identity::identify, socket_lb::socket_lb};

/// A Namespace; `None` for those that say nothing about Balancing, which are most.
///
/// # Errors
///
/// [`Invalid`] for a bad name.
pub fn from_namespace(it: &v1::Namespace, notices: &mut Vec<Notice>) -> Result<Option<Namespace>, Invalid> {
    let id = identify(Kind::Namespace, &it.metadata)?;
    let socket_lb = socket_lb(&id, &it.metadata, notices);
    Ok(socket_lb.map(|socket_lb| Namespace { name: id.name.name.clone(), socket_lb }))
}
