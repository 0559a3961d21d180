//! networking.k8s.io/v1 ServiceCIDR.

use k8s_openapi::api::networking::v1;
use model::{Kind, ServiceCidr};

use crate::{Invalid, field::Field, identity::identify};

/// A ServiceCIDR.
///
/// # Errors
///
/// [`Invalid`] for a bad name or CIDR.
pub fn from_cidr(it: &v1::ServiceCIDR) -> Result<ServiceCidr, Invalid> {
    let id = identify(Kind::ServiceCidr, &it.metadata)?;
    let listed = it.spec.as_ref().and_then(|spec| spec.cidrs.as_deref()).unwrap_or_default();
    let at = Field::of(&id, "spec.cidrs");
    let cidrs = at.items(listed).map(|(at, text)| at.cidr(text)).collect::<Result<_, _>>()?;
    Ok(ServiceCidr { cidrs, name: id.name.name.clone() })
}
