use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::object::meta;

/// What is written: to which object, and whether it is labelled; `None` deletes it.
type Write = (u8, Option<bool>);

fn writes() -> impl Strategy<Value = Vec<Write>> {
    prop::collection::vec((0u8..12, prop::option::weighted(0.7, any::<bool>())), 1..60)
}

fn kind(store: &Store) -> Arc<Kind> {
    store.served("", "v1", "configmaps").unwrap()
}

fn write(store: &mut Store, (at, what): &Write) {
    let (namespace, name) = (format!("n{}", at % 3), format!("o{at}"));
    let labels = |is_in: bool| if is_in { json!({"in": "1"}) } else { json!({}) };
    let fields = what.map(|is_in| {
        let object = json!({"metadata": {"namespace": namespace, "name": name, "labels": labels(is_in)}});
        object.as_object().unwrap().clone()
    });
    let kind = kind(store);
    store.commit(&kind, &format!("{namespace}/{name}"), fields);
}

fn selectors(store: &Store) -> Vec<Selector> {
    let parse = |namespace, labels| Selector::parse(&kind(store), namespace, labels, "").unwrap();
    vec![parse(None, ""), parse(Some("n1"), ""), parse(None, "in"), parse(Some("n2"), "!in")]
}

/// Names and versions of a list.
fn list(store: &Store, revision: u64, selector: &Selector) -> Vec<(String, u64)> {
    let page = store.page(&kind(store), revision, selector, None, usize::MAX);
    page.items.iter().map(|object| named(object)).collect()
}

fn named(object: &Object) -> (String, u64) {
    (meta(&object.fields, "name").unwrap().to_owned(), object.revision)
}

proptest! {
    /// Whoever lists at any version and follows the changes from there ends where the others are.
    #[test]
    fn a_list_and_the_changes_after_it_give_the_present(writes in writes(), back in 0usize..60) {
        let mut store = Store::new();
        let mut lists = Vec::new();
        for one in &writes {
            let seen: Vec<_> = selectors(&store).iter().map(|selector| list(&store, store.revision(), selector)).collect();
            lists.push((store.revision(), seen));
            write(&mut store, one);
        }
        let (revision, seen) = &lists[back % lists.len()];
        for (selector, seen) in selectors(&store).iter().zip(seen) {
            // The past can be listed as it was.
            prop_assert_eq!(&list(&store, *revision, selector), seen);
            let mut known: BTreeMap<String, u64> = seen.iter().cloned().collect();
            for change in store.changes(&kind(&store), *revision) {
                let sees = |object: &Option<Arc<Object>>| object.as_ref().is_some_and(|object| selector.matches(&object.fields));
                match &change.after {
                    Some(after) if sees(&change.after) => {
                        let (name, version) = named(after);
                        known.insert(name, version);
                    }
                    _ if sees(&change.before) => {
                        let (name, version) = named(change.gone().unwrap());
                        prop_assert!(version == change.revision && known.remove(&name).is_some());
                    }
                    _ => {}
                }
            }
            let now: BTreeMap<String, u64> = list(&store, store.revision(), selector).into_iter().collect();
            prop_assert_eq!(known, now);
        }
    }

    /// Pages are of one moment, whatever is written between them.
    #[test]
    fn pages_give_the_list_of_their_version(before in writes(), after in writes(), limit in 1usize..5) {
        let mut store = Store::new();
        before.iter().for_each(|one| write(&mut store, one));
        let revision = store.revision();
        let mut later = after.iter();
        for selector in selectors(&store) {
            let whole = list(&store, revision, &selector);
            let (mut paged, mut last) = (Vec::new(), None);
            loop {
                let page = store.page(&kind(&store), revision, &selector, last.as_deref(), limit);
                paged.extend(page.items.iter().map(|object| named(object)));
                later.by_ref().take(3).for_each(|one| write(&mut store, one));
                let Some((key, remaining)) = page.more else { break };
                prop_assert_eq!(paged.len() as u64 + remaining, whole.len() as u64);
                last = Some(key);
            }
            prop_assert_eq!(paged, whole);
        }
    }
}

#[test]
fn order_is_that_of_etcd() {
    let mut store = Store::new();
    let kind = kind(&store);
    for (namespace, name) in [("a", "z"), ("a-b", "a"), ("a", "b")] {
        let object: Value = json!({"metadata": {"namespace": namespace, "name": name}});
        store.commit(&kind, &format!("{namespace}/{name}"), object.as_object().cloned());
    }
    let names: Vec<String> =
        list(&store, store.revision(), &Selector::default()).into_iter().map(|(name, _)| name).collect();
    // `-` comes before `/`.
    assert_eq!(names, ["a", "b", "z"]);
}
