//! Who has a frontend that several policies of one kind ask for: the older one (P1).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
};

use model::{Kind, ObjectId, Policy, Protocol, Redirect};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Frontend {
    ip: IpAddr,
    port: u16,
    protocol: Protocol,
}

impl From<&Redirect<'_>> for Frontend {
    fn from(redirect: &Redirect<'_>) -> Self {
        Self { ip: redirect.ip, port: redirect.port, protocol: redirect.backend.protocol }
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", SocketAddr::new(self.ip, self.port), self.protocol)
    }
}

/// Older ones first; of one second, by name.
type Age = (Option<i64>, String);

/// Who asks for what.
#[derive(Debug, Default)]
pub(super) struct Claims {
    of: BTreeMap<ObjectId, (Age, BTreeSet<Frontend>)>,
    asked: BTreeMap<(Kind, Frontend), BTreeSet<Age>>,
}

impl Claims {
    /// What a policy asks for now; nothing, once it is gone. Whose standing may have changed by that.
    pub(super) fn set(
        &mut self,
        id: &ObjectId,
        policy: Option<(&Policy, &[Redirect<'_>])>,
    ) -> BTreeSet<ObjectId> {
        let new = policy.map(|(policy, redirects)| {
            let age = (policy.created, policy.name.clone());
            (age, redirects.iter().map(Frontend::from).collect::<BTreeSet<_>>())
        });
        if self.of.get(id) == new.as_ref() {
            return BTreeSet::new();
        }
        let mut touched = BTreeSet::from([id.clone()]);
        if let Some((age, frontends)) = self.of.remove(id) {
            for frontend in frontends {
                let key = (id.kind, frontend);
                if let Some(ages) = self.asked.get_mut(&key) {
                    ages.remove(&age);
                    touched.extend(ages.iter().map(|age| named(id.kind, age)));
                    if ages.is_empty() {
                        self.asked.remove(&key);
                    }
                }
            }
        }
        if let Some((age, frontends)) = new {
            for frontend in &frontends {
                let ages = self.asked.entry((id.kind, *frontend)).or_default();
                touched.extend(ages.iter().map(|age| named(id.kind, age)));
                ages.insert(age.clone());
            }
            self.of.insert(id.clone(), (age, frontends));
        }
        touched
    }

    /// The frontends that a policy asks for and another one has, with the name of that.
    pub(super) fn lost<'a>(&'a self, id: &'a ObjectId) -> impl Iterator<Item = (Frontend, &'a str)> + 'a {
        self.of.get(id).into_iter().flat_map(move |(age, frontends)| {
            frontends.iter().filter_map(move |frontend| {
                let holder = self.asked.get(&(id.kind, *frontend))?.first()?;
                (holder != age).then_some((*frontend, holder.1.as_str()))
            })
        })
    }
}

fn named(kind: Kind, age: &Age) -> ObjectId {
    ObjectId { kind, name: model::ObjectName::new("", &age.1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oversight::sample::policy;

    fn aged(name: &str, created: i64) -> Policy {
        Policy { created: Some(created), ..policy(name) }
    }

    fn set(claims: &mut Claims, policy: &Policy) -> Vec<String> {
        let touched = claims.set(&policy.id(), Some((policy, &policy.redirects(None))));
        touched.into_iter().map(|id| id.name.name.clone()).collect()
    }

    fn lost(claims: &Claims, name: &str) -> Vec<String> {
        let id = policy(name).id();
        claims.lost(&id).map(|(frontend, holder)| format!("{frontend} to {holder}")).collect()
    }

    #[test]
    fn p1_the_older_policy_keeps_a_frontend_and_the_newer_one_takes_over_when_it_goes() {
        let mut claims = Claims::default();
        assert_eq!(set(&mut claims, &aged("b", 2)), ["b"]);
        assert_eq!(set(&mut claims, &aged("b", 2)), [""; 0], "no change is none");
        assert_eq!(set(&mut claims, &aged("c", 2)), ["b", "c"]);
        assert_eq!(
            (lost(&claims, "b"), lost(&claims, "c")),
            (vec![], vec!["169.254.0.90:80/TCP to b".into()])
        );
        assert_eq!(set(&mut claims, &aged("z", 1)), ["b", "c", "z"]);
        assert_eq!(lost(&claims, "b"), ["169.254.0.90:80/TCP to z"]);
        let touched = claims.set(&policy("z").id(), None);
        assert_eq!(touched.len(), 3);
        assert_eq!((lost(&claims, "b").len(), lost(&claims, "z").len()), (0, 0));
        claims.set(&policy("b").id(), None);
        assert_eq!(lost(&claims, "c"), [""; 0]);
        claims.set(&policy("c").id(), None);
        assert!(claims.of.is_empty() && claims.asked.is_empty());
    }

    #[test]
    fn p1_policies_of_two_kinds_do_not_contest() {
        let mut claims = Claims::default();
        let model::PolicyBackends::Pods(pods, _) = policy("a").backends else { panic!() };
        let local = Policy { backends: model::PolicyBackends::Local(pods), ..aged("a", 1) };
        set(&mut claims, &local);
        assert_eq!(set(&mut claims, &aged("b", 2)), ["b"]);
        assert_eq!(lost(&claims, "b"), [""; 0]);
    }
}
