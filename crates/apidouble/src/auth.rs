//! Who asks: tokens, client certificates, and what RBAC objects allow.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use hyper::{HeaderMap, header};
use serde_json::Value;

use crate::{
    request::{Place, Verb},
    status::{Answer, Status, qualified},
    store::Store,
};

/// Somebody who has logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// `system:serviceaccount:NAMESPACE:NAME` for a service account.
    pub name: String,
    /// Without `system:authenticated`, which all have.
    pub groups: Vec<String>,
}

impl User {
    /// A user of no groups.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), groups: Vec::new() }
    }

    /// A service account, with the groups that all of them have.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
        Self { name: format!("system:serviceaccount:{namespace}:{name}"), groups: groups.into() }
    }

    /// One who may do everything.
    pub fn administrator() -> Self {
        Self { name: "kubernetes-admin".to_owned(), groups: vec!["system:masters".to_owned()] }
    }

    fn anonymous() -> Self {
        Self { name: "system:anonymous".to_owned(), groups: vec!["system:unauthenticated".to_owned()] }
    }

    fn is_anonymous(&self) -> bool {
        self.name == "system:anonymous"
    }
}

/// What a server asks of those who come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Everybody may do everything; a known token still says who it was.
    #[default]
    Open,
    /// A known token or certificate, or 401.
    Login,
    /// What the Roles, ClusterRoles and bindings of the cluster allow, or 403.
    Rbac,
}

/// Who may log in. Changes count from the next request on.
#[derive(Debug, Default)]
pub struct Accounts {
    tokens: Mutex<HashMap<String, User>>,
    certificates: Mutex<HashMap<Vec<u8>, User>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Accounts {
    /// `token` is `user` from now on.
    pub fn allow_token(&self, token: &str, user: User) {
        locked(&self.tokens).insert(token.to_owned(), user);
    }

    /// `token` is nobody from now on.
    pub fn revoke_token(&self, token: &str) {
        locked(&self.tokens).remove(token);
    }

    pub(crate) fn allow_certificate(&self, der: &[u8], user: User) {
        locked(&self.certificates).insert(der.to_vec(), user);
    }

    /// Who sent these headers over a connection with this client certificate.
    pub(crate) fn user(
        &self,
        headers: &HeaderMap,
        certificate: Option<&[u8]>,
        access: Access,
    ) -> Answer<User> {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = given.and_then(|value| value.strip_prefix("Bearer "));
        let known = match (certificate, token) {
            (_, Some(token)) => locked(&self.tokens).get(token.trim()).cloned(),
            (Some(der), None) => locked(&self.certificates).get(der).cloned(),
            (None, None) if access != Access::Login => return Ok(User::anonymous()),
            (None, None) => None,
        };
        match known {
            Some(user) => Ok(user),
            None if access == Access::Open => Ok(User::anonymous()),
            None => Err(Status::unauthorized()),
        }
    }
}

/// What is done, for rules.
pub(crate) enum Act<'a> {
    Resource(Verb, &'a Place),
    Path(&'a str, &'a str),
}

/// Whether the RBAC objects in `store` allow `user` to do this.
pub(crate) fn authorize(store: &Store, user: &User, act: &Act<'_>) -> Answer<()> {
    if user.groups.iter().any(|group| group == "system:masters") || is_for_all(user, act) {
        return Ok(());
    }
    let namespace = match act {
        Act::Resource(_, place) => place.namespace.as_deref(),
        Act::Path(..) => None,
    };
    let everywhere = bindings(store, "clusterrolebindings", None).into_iter().map(|binding| (binding, None));
    let here = namespace.into_iter().flat_map(|namespace| {
        let bindings = bindings(store, "rolebindings", Some(namespace));
        bindings.into_iter().map(move |binding| (binding, Some(namespace)))
    });
    for (binding, namespace) in everywhere.chain(here).filter(|(binding, _)| binds(binding, user)) {
        let role = &binding["roleRef"];
        let namespace = namespace.filter(|_| role["kind"] == "Role");
        let rules = rules(store, namespace, role["name"].as_str().unwrap_or_default());
        if rules.iter().any(|rule| allows(rule, act)) {
            return Ok(());
        }
    }
    let (resource, group, name) = match act {
        Act::Resource(_, place) => (place.plural.as_str(), place.group.as_str(), place.name.as_deref()),
        Act::Path(..) => ("", "", None),
    };
    Err(Status::forbidden(refusal(user, act), resource, group, name.unwrap_or_default()))
}

/// What a real server lets all do who have logged in, and health for everybody.
fn is_for_all(user: &User, act: &Act<'_>) -> bool {
    let path = match act {
        Act::Path("get", path) => path,
        Act::Resource(Verb::Create, place) => return is_self_review(place) && !user.is_anonymous(),
        _ => return false,
    };
    let health = ["/healthz", "/livez", "/readyz", "/version"];
    health.contains(path)
        || (!user.is_anonymous() && (path.starts_with("/api") || path.starts_with("/openapi")))
}

/// Where one asks what one may do oneself.
pub(crate) fn is_self_review(place: &Place) -> bool {
    place.group == "authorization.k8s.io" && place.plural == "selfsubjectaccessreviews"
}

/// A `SelfSubjectAccessReview` with its answer.
pub(crate) fn self_review(store: &Store, user: &User, access: Access, mut review: Value) -> Answer<Value> {
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let spec = &review["spec"];
    let asked = &spec["resourceAttributes"];
    let place = Place {
        group: text(&asked["group"]).unwrap_or_default(),
        version: text(&asked["version"]).unwrap_or_default(),
        plural: text(&asked["resource"]).unwrap_or_default(),
        namespace: text(&asked["namespace"]),
        name: text(&asked["name"]),
        subresource: text(&asked["subresource"]),
    };
    let (path, method) =
        (text(&spec["nonResourceAttributes"]["path"]), text(&spec["nonResourceAttributes"]["verb"]));
    let verb = asked["verb"].as_str().and_then(Verb::parse);
    let act = match (verb, &path, &method) {
        (Some(verb), ..) => Act::Resource(verb, &place),
        (None, Some(path), Some(method)) => Act::Path(method, path),
        _ => {
            return Err(Status::bad_request("neither resourceAttributes nor nonResourceAttributes say what"));
        }
    };
    let allowed = access != Access::Rbac || authorize(store, user, &act).is_ok();
    review["status"] = serde_json::json!({"allowed": allowed});
    Ok(review)
}

fn bindings(store: &Store, resource: &str, namespace: Option<&str>) -> Vec<Value> {
    let Some(kind) = store.served("rbac.authorization.k8s.io", "v1", resource) else { return Vec::new() };
    let Ok(selector) = crate::selector::Selector::parse(&kind, namespace, "", "") else { return Vec::new() };
    let page = store.page(&kind, store.revision(), &selector, None, usize::MAX);
    page.items.iter().map(|object| Value::Object(object.fields.clone())).collect()
}

fn binds(binding: &Value, user: &User) -> bool {
    let in_group = |group: &str| match group {
        "system:authenticated" => !user.is_anonymous(),
        group => user.groups.iter().any(|known| known == group),
    };
    binding["subjects"].as_array().into_iter().flatten().any(|subject| {
        let name = subject["name"].as_str().unwrap_or_default();
        match subject["kind"].as_str() {
            Some("User") => user.name == name,
            Some("Group") => in_group(name),
            Some("ServiceAccount") => {
                let namespace = subject["namespace"].as_str().unwrap_or_default();
                user.name == format!("system:serviceaccount:{namespace}:{name}")
            }
            _ => false,
        }
    })
}

fn rules(store: &Store, namespace: Option<&str>, name: &str) -> Vec<Value> {
    let resource = if namespace.is_some() { "roles" } else { "clusterroles" };
    let kind = store.served("rbac.authorization.k8s.io", "v1", resource);
    let role = kind.and_then(|kind| store.get(&kind, &crate::object::key(namespace, name)));
    role.and_then(|role| role.fields.get("rules")?.as_array().cloned()).unwrap_or_default()
}

fn allows(rule: &Value, act: &Act<'_>) -> bool {
    let has = |list: &str, wanted: &str| {
        rule[list].as_array().into_iter().flatten().any(|one| one == "*" || one == wanted)
    };
    match act {
        Act::Path(verb, path) => {
            let covers = |pattern: &str| match pattern.strip_suffix('*') {
                Some(start) => path.starts_with(start),
                None => pattern == *path,
            };
            let patterns = rule["nonResourceURLs"].as_array().into_iter().flatten();
            has("verbs", verb) && patterns.filter_map(Value::as_str).any(covers)
        }
        Act::Resource(verb, place) => {
            let resource = resource(place);
            let any_of_subresource =
                place.subresource.as_ref().is_some_and(|name| has("resources", &format!("*/{name}")));
            let names = rule["resourceNames"].as_array().filter(|names| !names.is_empty());
            let named = names.is_none_or(|names| {
                place.name.as_ref().is_some_and(|name| names.iter().any(|allowed| allowed == name))
            });
            has("verbs", verb.as_str())
                && has("apiGroups", &place.group)
                && (has("resources", &resource) || any_of_subresource)
                && named
        }
    }
}

/// `nodes/status`.
fn resource(place: &Place) -> String {
    match &place.subresource {
        Some(subresource) => format!("{}/{subresource}", place.plural),
        None => place.plural.clone(),
    }
}

fn refusal(user: &User, act: &Act<'_>) -> String {
    match act {
        Act::Path(verb, path) => format!("forbidden: User {:?} cannot {verb} path {path:?}", user.name),
        Act::Resource(verb, place) => {
            let name = place.name.as_ref().map(|name| format!(" {name:?}")).unwrap_or_default();
            let scope = match &place.namespace {
                Some(namespace) => format!("in the namespace {namespace:?}"),
                None => "at the cluster scope".to_owned(),
            };
            format!(
                "{}{name} is forbidden: User {:?} cannot {} resource {:?} in API group {:?} {scope}",
                qualified(&place.plural, &place.group),
                user.name,
                verb.as_str(),
                resource(place),
                place.group
            )
        }
    }
}
