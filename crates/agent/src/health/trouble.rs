//! What can't be served, and whose concern that is.

use std::fmt;

use model::{Kind, ObjectId, ObjectName};

/// Something to tell the operator, and, where it is about an object, those who look at that: it has the parts of a Kubernetes
/// Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// What it is about; `None` = this node.
    pub(crate) object: Option<ObjectId>,
    /// One word, as Events have it.
    pub(crate) reason: &'static str,
    /// What is wrong, and what to do.
    pub(crate) message: String,
}

impl Trouble {
    /// About a service.
    pub(crate) fn of_service(name: &ObjectName, reason: &'static str, message: String) -> Self {
        Self { object: Some(ObjectId { kind: Kind::Service, name: name.clone() }), reason, message }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        f.write_str(&self.message)
    }
}
