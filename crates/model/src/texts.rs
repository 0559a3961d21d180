//! Texts that many objects have in common.

use std::{collections::HashSet, sync::Arc};

/// One of each text that was seen.
#[derive(Debug, Default)]
pub struct Texts(HashSet<Arc<str>>);

impl Texts {
    /// Makes `text` the one that was seen first.
    pub fn share(&mut self, text: &mut Arc<str>) {
        match self.0.get(&**text) {
            Some(seen) => *text = seen.clone(),
            None => {
                // What nobody has any more goes, before room is made for more.
                if self.0.len() == self.0.capacity() {
                    self.0.retain(|text| Arc::strong_count(text) > 1);
                }
                self.0.insert(text.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        object::{Endpoint, Object, Pod},
        sample::{endpoint, pod, service, slice},
    };

    #[test]
    fn equal_texts_become_one_and_others_stay() {
        let on = |node: &str| Endpoint {
            node: Some(node.into()),
            zone: Some("z1".into()),
            zone_hints: vec!["z1".into()],
            node_hints: vec![node.into()],
            ..endpoint("10.0.0.1")
        };
        let mut objects: [Object; 3] = [
            service().into(),
            slice("a", vec![on("n1"), on("n2")]).into(),
            Pod { node: Some("n2".into()), ..pod("p", "10.0.0.1") }.into(),
        ];
        let before = objects.clone().map(|object| format!("{object:?}"));
        let mut texts = Texts::default();
        objects.iter_mut().for_each(|object| object.share_texts(&mut texts));
        assert_eq!(objects.clone().map(|object| format!("{object:?}")), before);

        let [Object::Service(service), Object::EndpointSlice(slice), Object::Pod(pod)] = &objects else {
            panic!("{objects:?}");
        };
        assert!(Arc::ptr_eq(&service.ports[0].name, &slice.ports[0].name));
        let [first, second] = &slice.endpoints[..] else { panic!("{slice:?}") };
        let (n1, n2, z1) = (first.node.as_ref(), second.node.as_ref(), first.zone.as_ref());
        assert!(Arc::ptr_eq(n1.unwrap(), &first.node_hints[0]) && !Arc::ptr_eq(n1.unwrap(), n2.unwrap()));
        assert!(Arc::ptr_eq(n2.unwrap(), pod.node.as_ref().unwrap()));
        assert!(Arc::ptr_eq(z1.unwrap(), &first.zone_hints[0]));
        assert!(Arc::ptr_eq(z1.unwrap(), second.zone.as_ref().unwrap()));
    }

    #[test]
    fn what_somebody_else_holds_stays_as_it_is() {
        let mut texts = Texts::default();
        Object::from(pod("a", "10.0.0.1")).share_texts(&mut texts);
        let mut object = Object::from(pod("b", "10.0.0.2"));
        let held = object.clone();
        object.share_texts(&mut texts);
        assert_eq!(object, held);
    }

    #[test]
    fn what_nobody_has_any_more_goes() {
        let mut texts = Texts::default();
        let mut kept: Arc<str> = "kept".into();
        texts.share(&mut kept);
        for number in 0..10_000 {
            texts.share(&mut number.to_string().into());
        }
        assert!(texts.0.len() < 100, "{}", texts.0.len());
        assert!(texts.0.contains("kept"));
    }
}
