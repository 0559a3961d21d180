//! All that is wrong with one document, by the rules of its schema.

use kube::core::{
    CustomResourceExt,
    cel::{ValidationError, ValidationErrors, validate_cel},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    Invalid,
    policy::{BalancingPolicy, LocalRedirectPolicy},
};

/// All that is wrong with a policy, as an API server would say it that has the definitions ([`crate::policy::crds`]). Empty: it
/// is right, or no policy.
pub(super) fn check(document: Value) -> Vec<Invalid> {
    let text = |path: &str| document.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, name) = (text("/kind"), text("/metadata/name"));
    let object = format!("{kind} {name}");
    match (text("/apiVersion").as_str(), kind.as_str()) {
        ("balancing.elf.io/v1beta1", "LocalRedirectPolicy") => {
            by_rules::<LocalRedirectPolicy>(&object, document)
        }
        ("balancing.elf.io/v1beta1", "BalancingPolicy") => by_rules::<BalancingPolicy>(&object, document),
        _ => Vec::new(),
    }
}

fn by_rules<T: DeserializeOwned + Serialize + CustomResourceExt>(
    object: &str,
    document: Value,
) -> Vec<Invalid> {
    let typed: Result<T, _> = serde_path_to_error::deserialize(document);
    match typed {
        Ok(typed) => broken(object, validate_cel(&typed)),
        Err(error) => {
            let (field, problem) = (error.path().to_string(), error.inner().to_string());
            vec![Invalid { object: object.to_owned(), field, problem }]
        }
    }
}

fn broken(object: &str, outcome: Result<(), ValidationErrors>) -> Vec<Invalid> {
    let errors = outcome.err().map(ValidationErrors::into_vec).unwrap_or_default();
    let invalid = |error: ValidationError| Invalid {
        object: object.to_owned(),
        field: error.field_path,
        problem: error.message,
    };
    errors.into_iter().map(invalid).collect()
}
