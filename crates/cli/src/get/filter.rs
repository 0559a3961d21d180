//! Which rows of a listing are wanted, and what to say if there are none.

use std::{borrow::Cow, collections::BTreeSet, net::IpAddr};

use clap::{Args, ValueEnum};

use crate::{
    target::namespaced,
    wanted::{WantedPolicy, WantedService},
};

/// What rows are filtered by; a listing leaves out what it has not, and takes no filter of it.
#[derive(Default)]
pub(super) struct Facts<'a> {
    pub(super) namespace: &'a str,
    /// Of a policy, which has no namespace, as [`policy_name`](agent::local::policy_name) has it.
    pub(super) name: Cow<'a, str>,
    /// As the listing shows it, where that is neither its name nor namespace and name.
    pub(super) shown: Option<String>,
    /// `TCP` or `UDP`.
    pub(super) protocol: &'a str,
    /// Those of one family count.
    pub(super) addresses: Vec<IpAddr>,
    /// How it is, in the words of [`State::text`].
    pub(super) state: &'a str,
    /// Namespace, name and port of the service that it was for.
    pub(super) service: Option<(&'a str, &'a str, &'a str)>,
    /// Kind and name of the policy that it was for.
    pub(super) policy: Option<(&'a str, &'a str)>,
    /// Namespace and name of the pod that asked.
    pub(super) pod: Option<(&'a str, &'a str)>,
    /// What became of it.
    pub(super) verdict: &'a str,
}

/// A row that can be filtered.
pub(super) trait Subject {
    /// One and many of it, in words.
    const NOUN: (&'static str, &'static str);
    /// How `balancing get` calls the listing.
    const LISTING: &'static str;
    /// Why there may be none at all, or what to do.
    const NONE: &'static str = "";
    /// How it is sorted, if there may be more rows than anybody reads.
    const MANY: Option<&'static str> = None;
    /// Filters that it takes, besides names.
    const FILTERS: &'static [&'static str];

    /// What filters look at.
    fn facts(&self) -> Facts<'_>;

    /// What tells it from others, where rows are counted: a service is one, whatever its frontends.
    fn key(&self) -> String {
        let Facts { namespace, name, .. } = self.facts();
        format!("{namespace}/{name}")
    }
}

/// More rows than anybody reads.
const MANY: usize = 100;

/// See the fields.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Filter {
    /// Only these: NAME, NAMESPACE/NAME, of a policy also lr/NAME or bl/NAME
    #[arg(value_name = "NAME")]
    pub(super) names: Vec<String>,
    /// Only this namespace
    #[arg(short, long, value_name = "NAME")]
    pub(super) namespace: Option<String>,
    /// All namespaces, which is the default
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub(super) all_namespaces: bool,
    /// Only this protocol
    #[arg(long, value_name = "PROTOCOL", ignore_case = true)]
    pub(super) protocol: Option<Protocol>,
    /// Only this family of addresses
    #[arg(long, value_name = "FAMILY")]
    pub(super) family: Option<Family>,
    /// Only endpoints, connections or affinities that are so
    #[arg(long, value_name = "STATE", ignore_case = true)]
    pub(super) state: Option<State>,
    /// Only uses of this service, or port of it
    #[arg(long, value_name = "NAMESPACE/NAME[:PORT]")]
    pub(super) service: Option<WantedService>,
    /// Only uses of this policy: NAME, lr/NAME or bl/NAME
    #[arg(long, value_name = "NAME")]
    pub(super) policy: Option<WantedPolicy>,
    /// Only uses by this pod
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = namespaced)]
    pub(super) pod: Option<(String, String)>,
    /// Only uses that ended so: translated, refused, unreachable, denied or passed
    #[arg(long, value_name = "VERDICT", value_parser = ["translated", "refused", "unreachable", "denied", "passed"])]
    pub(super) verdict: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Family {
    #[value(name = "4")]
    V4,
    #[value(name = "6")]
    V6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum State {
    /// New connections go there
    InUse,
    /// Terminating, and used as there is nothing better
    LastResort,
    /// Known, and no new connections go there; STATE says why
    NotSelected,
    /// Of a connection: its backend is no longer usable; of an affinity: the next connection chooses anew
    Stale,
}

impl State {
    fn text(self) -> &'static str {
        match self {
            Self::InUse => "in use",
            Self::LastResort => "last resort",
            Self::NotSelected => "not selected",
            Self::Stale => "stale",
        }
    }
}

/// What is left of a listing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept<T> {
    pub(super) rows: Vec<T>,
    /// What people are told if that is nothing.
    pub(super) empty: String,
    /// Names that were asked for and are not there, each with what to do.
    pub(super) missing: Vec<String>,
}

impl Filter {
    /// Filters that were given and that a listing of `T` does not take.
    pub(super) fn misplaced<T: Subject>(&self) -> Option<String> {
        let given = self.given().into_iter().find(|given| !T::FILTERS.contains(given))?;
        let all = T::FILTERS.join(", ");
        let takes = if all.is_empty() { "names only".into() } else { format!("names, {all}") };
        Some(format!("{given} makes no sense for {}; they are filtered by {takes}", T::NOUN.1))
    }

    /// How to have fewer of `rows`, if they are very many and nobody has chosen.
    pub(super) fn advice<T: Subject>(&self, rows: usize) -> Option<String> {
        let sorted = T::MANY.filter(|_| rows > MANY && self.names.is_empty() && self.given().is_empty())?;
        let filters = T::FILTERS.join(", ");
        Some(format!("{rows} rows: {sorted}; there are fewer with a name, {filters}, or `| head`"))
    }

    fn given(&self) -> Vec<&'static str> {
        [
            (self.namespace.is_some(), "--namespace"),
            (self.protocol.is_some(), "--protocol"),
            (self.family.is_some(), "--family"),
            (self.state.is_some(), "--state"),
            (self.service.is_some(), "--service"),
            (self.policy.is_some(), "--policy"),
            (self.pod.is_some(), "--pod"),
            (self.verdict.is_some(), "--verdict"),
        ]
        .into_iter()
        .filter_map(|(given, flag)| given.then_some(flag))
        .collect()
    }

    /// Keeps what is wanted.
    pub(super) fn apply<T: Subject>(&self, mut rows: Vec<T>) -> Kept<T> {
        let all = count(&rows);
        let missing = self.names.iter().filter_map(|name| self.missing(name, &rows)).collect();
        rows.retain(|row| self.fits(&row.facts()));
        let elsewhere = count(&rows);
        rows.retain(|row| self.is_here(&row.facts()));
        Kept { rows, empty: self.empty::<T>(all, elsewhere), missing }
    }

    fn empty<T: Subject>(&self, all: usize, elsewhere: usize) -> String {
        let (one, many) = T::NOUN;
        let are = |count: usize| match count {
            1 => format!("there is 1 {one}"),
            count => format!("there are {count} {many}"),
        };
        let namespace = self.namespace.as_deref();
        match (namespace, all, elsewhere) {
            (_, 0, _) if T::NONE.is_empty() => format!("no {many}"),
            (_, 0, _) => format!("no {many}: {}", T::NONE),
            (Some(namespace), _, 1..) => {
                let count = if elsewhere == 1 { "is 1".into() } else { format!("are {elsewhere}") };
                format!("no {many} in namespace {namespace}; there {count} in others: -A")
            }
            _ => {
                let given = self.given();
                let what = if given.is_empty() { "of that name".into() } else { given.join(", ") };
                format!("no {many} fit {what}; without, {}", are(all))
            }
        }
    }

    fn missing<T: Subject>(&self, name: &str, rows: &[T]) -> Option<String> {
        let noun = T::NOUN.0;
        if rows.iter().map(Subject::facts).any(|row| row.is_called(name) && self.is_here(&row)) {
            return None;
        }
        // It may be somewhere else, or of another kind.
        let bare = name.split('/').nth(1).unwrap_or(name);
        let policy: Option<WantedPolicy> = bare.parse().ok();
        let is_it =
            |row: &Facts<'_>| policy.as_ref().is_some_and(|it| row.is_policy() && it.is_called(&row.name));
        let policies: BTreeSet<String> =
            rows.iter().map(Subject::facts).filter(is_it).map(|row| row.name.into_owned()).collect();
        let named = rows.iter().map(Subject::facts).filter(|row| row.name == bare);
        let others: BTreeSet<&str> = named.map(|row| row.namespace).filter(|it| !it.is_empty()).collect();
        let others: Vec<&str> = others.into_iter().collect();
        Some(match (&self.namespace, others.as_slice()) {
            (Some(_), []) if !policies.is_empty() => {
                let known = policies.into_iter().collect::<Vec<_>>().join(" and ");
                format!("no {noun} {name} in a namespace; there is {known}, and policies have none")
            }
            (None, []) if !policies.is_empty() => {
                let known = policies.into_iter().collect::<Vec<_>>().join(" and ");
                format!("no {noun} {name}; there is {known}")
            }
            (_, []) => format!("no {noun} {name}; `balancing get {}` lists those there are", T::LISTING),
            (Some(namespace), others) if !name.contains('/') => {
                format!("no {noun} {name} in namespace {namespace}; there is one in {}", others.join(", "))
            }
            (_, others) => format!("no {noun} {name}; there is a {bare} in {}", others.join(", ")),
        })
    }

    /// All but the namespace, which decides what people are told if nothing is left.
    fn fits(&self, row: &Facts<'_>) -> bool {
        let protocol = |wanted: Protocol| match wanted {
            Protocol::Tcp => row.protocol == "TCP",
            Protocol::Udp => row.protocol == "UDP",
        };
        let is = |(namespace, name): &(String, String), it: (&str, &str)| it == (namespace, name);
        let family = |wanted: Family| row.addresses.iter().any(|ip| ip.is_ipv4() == (wanted == Family::V4));
        self.protocol.is_none_or(protocol)
            && self.family.is_none_or(family)
            && self.state.is_none_or(|wanted| row.state == wanted.text())
            && self.service.as_ref().is_none_or(|wanted| {
                row.service.is_some_and(|(namespace, name, port)| wanted.is(namespace, name, port))
            })
            && self.pod.as_ref().is_none_or(|wanted| row.pod.is_some_and(|it| is(wanted, it)))
            && self
                .policy
                .as_ref()
                .is_none_or(|wanted| row.policy.is_some_and(|(kind, name)| wanted.is(kind, name)))
            && self.verdict.as_ref().is_none_or(|wanted| row.verdict == wanted)
            && (self.names.is_empty() || self.names.iter().any(|name| row.is_called(name)))
    }

    fn is_here(&self, row: &Facts<'_>) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| row.namespace == namespace)
    }
}

impl Facts<'_> {
    fn is_policy(&self) -> bool {
        self.name.contains('/')
    }

    fn is_called(&self, name: &str) -> bool {
        if self.is_policy() {
            return name.parse().is_ok_and(|wanted: WantedPolicy| wanted.is_called(&self.name));
        }
        if self.shown.as_deref() == Some(name) {
            return true;
        }
        match name.split_once('/') {
            Some((namespace, name)) => self.namespace == namespace && self.name == name,
            None => self.name == name,
        }
    }
}

fn count<T: Subject>(rows: &[T]) -> usize {
    rows.iter().map(Subject::key).collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, Clone)]
    struct Thing(&'static str, &'static str, &'static str, IpAddr, &'static str);

    impl Subject for Thing {
        const NOUN: (&'static str, &'static str) = ("thing", "things");
        const LISTING: &'static str = "list-of-things";
        const MANY: Option<&'static str> = Some("by size");
        const FILTERS: &'static [&'static str] = &["--namespace", "--protocol", "--family", "--state"];

        fn facts(&self) -> Facts<'_> {
            let Self(namespace, name, protocol, address, state) = *self;
            Facts {
                namespace,
                name: name.into(),
                protocol,
                addresses: vec![address],
                state,
                ..Facts::default()
            }
        }
    }

    struct Plain;

    impl Subject for Plain {
        const NOUN: (&'static str, &'static str) = ("plain one", "plain ones");
        const LISTING: &'static str = "plain";
        const FILTERS: &'static [&'static str] = &[];

        fn facts(&self) -> Facts<'_> {
            Facts { name: "x".into(), ..Facts::default() }
        }
    }

    fn things() -> Vec<Thing> {
        let (v4, v6) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]));
        vec![
            Thing("a", "web", "TCP", v4, "in use"),
            Thing("a", "web", "UDP", v6, "not selected"),
            Thing("b", "web", "TCP", v4, "in use"),
            Thing("b", "dns", "UDP", v4, "last resort"),
        ]
    }

    fn keep(change: impl FnOnce(&mut Filter)) -> Kept<Thing> {
        let mut filter = Filter::default();
        change(&mut filter);
        filter.apply(things())
    }

    #[test]
    fn every_filter_counts() {
        assert_eq!(keep(|_| {}).rows, things());
        assert_eq!(keep(|it| it.names = vec!["web".into()]).rows.len(), 3);
        assert_eq!(keep(|it| it.names = vec!["b/web".into(), "dns".into()]).rows, &things()[2..]);
        assert_eq!(keep(|it| it.namespace = Some("a".into())).rows, &things()[..2]);
        assert_eq!(keep(|it| it.protocol = Some(Protocol::Udp)).rows.len(), 2);
        assert_eq!(keep(|it| it.family = Some(Family::V6)).rows, &things()[1..2]);
        assert_eq!(keep(|it| it.state = Some(State::LastResort)).rows, &things()[3..]);
        let two = |it: &mut Filter| (it.namespace, it.protocol) = (Some("b".into()), Some(Protocol::Udp));
        assert_eq!(keep(two).rows, &things()[3..]);
    }

    #[test]
    fn policies_are_called_in_every_usual_way() {
        let v4 = IpAddr::from([10, 0, 0, 1]);
        let rows = || {
            vec![
                Thing("", "bl/db", "TCP", v4, ""),
                Thing("", "lr/db", "TCP", v4, ""),
                Thing("a", "db", "TCP", v4, ""),
            ]
        };
        let keep = |name: &str| Filter { names: vec![name.into()], ..Filter::default() }.apply(rows());
        for (name, kept) in [
            ("db", &[0, 1, 2][..]),
            ("bl/db", &[0]),
            ("lr/db", &[1]),
            ("LocalRedirectPolicy/db", &[1]),
            ("a/db", &[2]),
        ] {
            let expected: Vec<Thing> = kept.iter().map(|row| rows()[*row].clone()).collect();
            assert_eq!((keep(name).rows, keep(name).missing), (expected, Vec::new()), "{name}");
        }
        let only = |name: &str, namespace: Option<&str>| {
            let filter = Filter {
                names: vec![name.into()],
                namespace: namespace.map(Into::into),
                ..Filter::default()
            };
            filter.apply(rows().drain(..1).collect()).missing
        };
        assert_eq!(only("lr/db", None), ["no thing lr/db; there is bl/db"]);
        assert_eq!(
            only("bl/db", Some("a")),
            ["no thing bl/db in a namespace; there is bl/db, and policies have none"]
        );
        assert_eq!(
            only("lr/x", None),
            ["no thing lr/x; `balancing get list-of-things` lists those there are"]
        );
    }

    #[test]
    fn nothing_is_said_with_what_to_do() {
        let empty = |change: fn(&mut Filter)| keep(change).empty;
        assert_eq!(Filter::default().apply(Vec::<Thing>::new()).empty, "no things");
        let other = empty(|it| it.namespace = Some("c".into()));
        assert_eq!(other, "no things in namespace c; there are 3 in others: -A");
        let one = empty(|it| (it.namespace, it.family) = (Some("c".into()), Some(Family::V6)));
        assert_eq!(one, "no things in namespace c; there is 1 in others: -A");
        let none = empty(|it| (it.protocol, it.family) = (Some(Protocol::Tcp), Some(Family::V6)));
        assert_eq!(none, "no things fit --protocol, --family; without, there are 3 things");
    }

    #[test]
    fn names_that_are_not_there_are_said() {
        let missing = |change: fn(&mut Filter)| keep(change).missing;
        assert_eq!(missing(|it| it.names = vec!["web".into(), "b/dns".into()]), Vec::<String>::new());
        assert_eq!(
            missing(|it| it.names = vec!["wep".into(), "dns".into()]),
            ["no thing wep; `balancing get list-of-things` lists those there are"]
        );
        assert_eq!(missing(|it| it.names = vec!["a/dns".into()]), ["no thing a/dns; there is a dns in b"]);
        let here = missing(|it| (it.namespace, it.names) = (Some("a".into()), vec!["dns".into()]));
        assert_eq!(here, ["no thing dns in namespace a; there is one in b"]);
    }

    #[test]
    fn who_gets_very_many_rows_is_told_how_to_have_fewer() {
        let advice = |filter: &Filter, rows| filter.advice::<Thing>(rows);
        let all = Filter::default();
        assert_eq!(
            advice(&all, 101).as_deref(),
            Some(
                "101 rows: by size; there are fewer with a name, --namespace, --protocol, --family, --state, or `| head`"
            )
        );
        assert_eq!(advice(&all, 100), None);
        assert_eq!(advice(&Filter { names: vec!["x".into()], ..Filter::default() }, 101), None);
        assert_eq!(advice(&Filter { namespace: Some("x".into()), ..Filter::default() }, 101), None);
        assert_eq!(all.advice::<Plain>(101), None);
    }

    #[test]
    fn filters_that_make_no_sense_are_refused() {
        let filter = Filter { protocol: Some(Protocol::Tcp), ..Filter::default() };
        assert_eq!(filter.misplaced::<Thing>(), None);
        assert_eq!(
            filter.misplaced::<Plain>().as_deref(),
            Some("--protocol makes no sense for plain ones; they are filtered by names only")
        );
        assert_eq!(Filter::default().misplaced::<Plain>(), None);
    }
}
