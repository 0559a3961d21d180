//! The annotation by which pods are left alone.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::{ObjectId, SOCKET_LB};

use crate::{Notice, field::Field};

/// What [`SOCKET_LB`] says. A value that is neither has no effect, and is told of.
pub(crate) fn socket_lb(id: &ObjectId, metadata: &ObjectMeta, notices: &mut Vec<Notice>) -> Option<bool> {
    let value = metadata.annotations.as_ref()?.get(SOCKET_LB)?;
    match value.as_str() {
        "true" => Some(true),
        "false" => Some(false),
        other => {
            let field = format!("metadata.annotations[{SOCKET_LB}]");
            let reason = format!(
                "{other:?} is neither \"true\" nor \"false\", and has no effect; with \"false\" connections pass \
                 untranslated"
            );
            notices.push(Field::of(id, &field).skipped(reason));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{Namespace, Object};
    use serde_json::{Value, json};

    use crate::{Converted, convert, from_json};

    fn document(kind: &str, annotations: Value) -> Value {
        json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "web", "annotations": annotations}})
    }

    fn annotated(kind: &str, value: &str) -> Value {
        document(kind, json!({"balancing.elf.io/socket-lb": value, "example.com/socket-lb": "false"}))
    }

    fn of_pod(converted: &Converted) -> Option<bool> {
        let [Object::Pod(pod)] = &converted.objects[..] else { panic!("{converted:?}") };
        pod.socket_lb
    }

    fn of_namespace(converted: &Converted) -> Option<Namespace> {
        match &converted.objects[..] {
            [] => None,
            [Object::Namespace(it)] => Some((**it).clone()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pods_and_namespaces_say_whether_they_are_left_alone() {
        for (value, socket_lb) in [("true", true), ("false", false)] {
            let pod = convert(annotated("Pod", value)).unwrap();
            assert_eq!((of_pod(&pod), &pod.notices[..]), (Some(socket_lb), &[][..]));
            let namespace = convert(annotated("Namespace", value)).unwrap();
            assert_eq!(of_namespace(&namespace), Some(Namespace { name: "web".into(), socket_lb }));
            let text = annotated("Namespace", value).to_string();
            let sent = from_json(model::Kind::Namespace, &text, &mut Vec::new()).unwrap();
            assert_eq!(sent, namespace.objects.first().cloned(), "as an API server sends it");
        }
        assert_eq!(of_pod(&convert(document("Pod", json!({}))).unwrap()), None);
        let silent = convert(document("Namespace", json!({"example.com/a": "false"}))).unwrap();
        assert_eq!(silent, Converted::default(), "neither an effect nor anything to tell");
    }

    #[test]
    fn any_other_value_has_no_effect_and_is_told_of() {
        for value in ["False", "no", "0", "", " false", "enabled"] {
            let pod = convert(annotated("Pod", value)).unwrap();
            assert_eq!(of_pod(&pod), None, "{value:?}");
            let [notice] = &pod.notices[..] else { panic!("{value:?}: {:?}", pod.notices) };
            assert_eq!(
                notice.to_string(),
                format!(
                    "Pod default/web: metadata.annotations[balancing.elf.io/socket-lb]: {value:?} is neither \"true\" nor \
                     \"false\", and has no effect; with \"false\" connections pass untranslated"
                )
            );
            let namespace = convert(annotated("Namespace", value)).unwrap();
            assert_eq!((of_namespace(&namespace), namespace.notices.len()), (None, 1), "{value:?}");
        }
    }
}
