//! What is wrong with the files of a directory, or has no effect.

use std::{collections::BTreeSet, ffi::OsStr, io};

use model::{Kind, Object, ObjectId, ObjectName};

use super::Directory;
use crate::{
    Place, Problem, Severity,
    manifests::parse::{Content, Fault},
};

impl Directory {
    /// Sees which of these objects are in more than one file, and which slices without a service. Of all slices only if
    /// services have come or gone: there are ten thousands of them, and most changes are of one.
    pub(super) fn review(&mut self, touched: &BTreeSet<ObjectId>) {
        for id in touched {
            if self.claims.get(id).is_some_and(|names| names.len() > 1) {
                self.contested.insert(id.clone());
            } else {
                self.contested.remove(id);
            }
        }
        let came_or_went = |id: &ObjectId| self.given.contains_key(id) != self.claims.contains_key(id);
        if touched.iter().any(|id| id.kind == Kind::Service && came_or_went(id)) {
            self.orphans = self.claims.keys().filter(|id| self.is_orphan(id)).cloned().collect();
            return;
        }
        for id in touched {
            if self.is_orphan(id) {
                self.orphans.insert(id.clone());
            } else {
                self.orphans.remove(id);
            }
        }
    }

    /// What files say of an object, by their names.
    fn said(&self, id: &ObjectId) -> impl Iterator<Item = (&OsStr, &Content, &Object)> {
        self.claims.get(id).into_iter().flatten().filter_map(move |name| {
            let content = &self.files.get(name)?.content;
            Some((&**name, content, content.objects.get(id)?))
        })
    }

    fn is_orphan(&self, id: &ObjectId) -> bool {
        id.kind == Kind::EndpointSlice && self.said(id).any(|(_, _, it)| self.without_service(it).is_some())
    }

    /// All that is wrong, or has no effect.
    pub(super) fn find_problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |severity, name: &OsStr, fault: &Fault| {
            problems.push(Problem {
                severity,
                place: Place::File(self.path.join(name)),
                line: fault.line,
                object: fault.object.clone(),
                reason: fault.reason.clone(),
            });
        };
        for (name, entry) in &self.files {
            if let Some(fault) = &entry.fault {
                add(Severity::Error, name, fault);
            }
            for notice in &entry.content.notices {
                add(Severity::Notice, name, notice);
            }
        }
        for id in &self.orphans {
            for (name, content, object) in self.said(id) {
                if let Some(reason) = self.without_service(object) {
                    let line = content.lines.get(id).copied();
                    add(Severity::Notice, name, &Fault { line, object: Some(id.to_string()), reason });
                }
            }
        }
        for id in &self.contested {
            let mut said = self.said(id);
            let Some((holder, ..)) = said.next() else { continue };
            for (name, content, _) in said {
                let line = content.lines.get(id).copied();
                let holder = holder.to_string_lossy();
                let reason = format!("is also in {holder}, which holds it; remove one of them");
                add(Severity::Error, name, &Fault { line, object: Some(id.to_string()), reason });
            }
        }
        // By object as well: one line may hold a whole list.
        let place = |it: &Problem| (it.place.clone(), it.line, it.severity, it.object.clone());
        problems.sort_by_cached_key(place);
        problems
    }

    /// Why a slice has no effect, if its service is not there: the label may be mistyped.
    fn without_service(&self, object: &Object) -> Option<String> {
        const LABEL: &str = "metadata.labels.kubernetes.io/service-name";
        let Object::EndpointSlice(slice) = object else { return None };
        let Some(service) = &slice.service else {
            return Some(format!("{LABEL}: is missing, so that it belongs to no Service and has no effect"));
        };
        let name = ObjectName::new(slice.name.namespace.clone(), service);
        let there = self.claims.contains_key(&ObjectId { kind: Kind::Service, name: name.clone() });
        (!there).then(|| format!("{LABEL}: there is no Service {name}, so that it has no effect"))
    }

    /// Why nothing could be seen.
    pub(super) fn problem_of_directory(&self, error: &io::Error) -> Problem {
        Problem {
            severity: Severity::Error,
            place: Place::File(self.path.clone()),
            line: None,
            object: None,
            reason: format!("cannot be read, everything stays as it was: {error}"),
        }
    }
}
