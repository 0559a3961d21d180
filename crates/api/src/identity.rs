//! Names of objects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::{Kind, ObjectId, ObjectName};

use crate::{
    Invalid,
    field::{Field, set},
};

/// Kind, namespace and name of an object, valid and with the default namespace where it needs one.
pub(crate) fn identify(kind: Kind, metadata: &ObjectMeta) -> Result<ObjectId, Invalid> {
    let namespace = match kind {
        Kind::Node
        | Kind::Namespace
        | Kind::ServiceCidr
        | Kind::LocalRedirectPolicy
        | Kind::BalancingPolicy => "",
        Kind::Service | Kind::EndpointSlice | Kind::Pod => set(&metadata.namespace).unwrap_or("default"),
    };
    let name = set(&metadata.name).unwrap_or_default();
    let id = ObjectId { kind, name: ObjectName::new(namespace, name) };
    if name.is_empty() {
        return Err(Field::of(&id, "metadata.name").invalid("is missing; every object needs a name"));
    }
    let name_is_valid = match kind {
        Kind::Service | Kind::Namespace => is_label(name),
        _ => is_subdomain(name),
    };
    if !name_is_valid {
        let problem = "is not a valid name; use lower case letters, digits and '-', \
                       and begin and end with a letter or digit";
        return Err(Field::of(&id, "metadata.name").invalid(problem));
    }
    if !namespace.is_empty() && !is_label(namespace) {
        return Err(Field::of(&id, "metadata.namespace").invalid("is not a valid namespace"));
    }
    Ok(id)
}

/// RFC 1123 label. Services may begin with a digit since the gate RelaxedServiceNameValidation.
pub(crate) fn is_label(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// RFC 1123 subdomain: labels with dots between them, though of any length, as Kubernetes has it.
pub(crate) fn is_subdomain(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
    };
    text.len() <= 253 && text.split('.').all(part)
}

/// Name of a container port: at most 15 letters, digits and single '-', one letter at least (IANA_SVC_NAME).
pub(crate) fn is_port_name(text: &str) -> bool {
    text.len() <= 15 && is_label(text) && !text.contains("--") && text.bytes().any(|c| c.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_kubernetes_accepts() {
        for good in ["a", "web-1", "1web"] {
            assert!(is_label(good) && is_subdomain(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a/b", "é"] {
            assert!(!is_label(bad) && !is_subdomain(bad), "{bad}");
        }
        assert!(is_subdomain("a.b-c.d") && !is_label("a.b"));
        assert!(!is_subdomain("a..b") && !is_subdomain(".a"));
        assert!(!is_label(&"a".repeat(64)) && is_subdomain(&"a".repeat(64)));
        assert!(!is_subdomain(&"a".repeat(254)));
        assert!(is_port_name("http-alt") && !is_port_name("8080") && !is_port_name("a--b"));
        assert!(!is_port_name("a-name-too-long-"));
    }
}
