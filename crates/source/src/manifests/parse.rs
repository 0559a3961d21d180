//! The text of one file to objects.

use std::collections::{BTreeMap, HashMap};

use api::Notice;
use model::{Object, ObjectId, Texts};
use serde_json::Value;
use serde_saphyr::{Options, Spanned, UserMessageFormatter};

/// Values in one file, aliases counted as often as they are used. Ten times what 10 000 services with their
/// slices need, and little enough memory.
const MAX_NODES: usize = 8_000_000;
/// Nesting. Twice as much overflows the 2 MiB stack of a thread in a debug build.
const MAX_DEPTH: usize = 64;
/// Notices about one file: what is wrong with thousands of objects of a kind need not be said of each.
const MAX_NOTICES: usize = 20;
/// Values that aliases may repeat.
const MAX_REPEATED: usize = 100_000;

/// What a good file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Its objects.
    pub objects: HashMap<ObjectId, Object>,
    /// The line of the document that each object is in.
    pub lines: HashMap<ObjectId, u64>,
    /// What in it has no effect: line, object and reason.
    pub notices: Vec<Fault>,
}

/// What is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line, counted from 1.
    pub line: Option<u64>,
    /// Kind and name of the object, where it is about one.
    pub object: Option<String>,
    /// What is wrong.
    pub reason: String,
}

/// Reads all documents of a file. JSON is read as the YAML that it is.
///
/// # Errors
///
/// The first thing that is wrong; nothing in the file counts then.
pub fn parse(text: &str) -> Result<Content, Fault> {
    let read: Documents =
        serde_saphyr::from_str_multiple_with_options(text, options()).map_err(|error| unreadable(&error))?;
    read.finish()
}

/// All documents of a file as they are, each with its line.
///
/// # Errors
///
/// What can't be read.
pub fn documents(text: &str) -> Result<Vec<(u64, Value)>, Fault> {
    let read: Result<Vec<Spanned<Value>>, _> = serde_saphyr::from_str_multiple_with_options(text, options());
    let documents = read.map_err(|error| unreadable(&error))?;
    Ok(documents.into_iter().map(|document| (document.referenced.line(), document.value)).collect())
}

fn unreadable(error: &serde_saphyr::Error) -> Fault {
    Fault {
        line: error.location().map(|location| location.line()),
        object: None,
        reason: error.render_with_formatter(&UserMessageFormatter),
    }
}

/// What the documents read so far say. Each is dropped before the next is read: a document in memory takes twenty times
/// what its objects do.
#[derive(Default)]
struct Documents {
    content: Content,
    /// Kinds that are not read, with where the first is and how many there are.
    ignored: BTreeMap<(String, String), (u64, usize)>,
    /// The first thing that is wrong.
    fault: Option<Fault>,
    texts: Texts,
}

impl Extend<Spanned<Value>> for Documents {
    fn extend<T: IntoIterator<Item = Spanned<Value>>>(&mut self, documents: T) {
        for document in documents {
            if self.fault.is_none() {
                self.fault = self.add(document).err();
            }
        }
    }
}

impl Documents {
    fn add(&mut self, document: Spanned<Value>) -> Result<(), Fault> {
        let line = document.referenced.line();
        let converted = api::convert(document.value).map_err(|invalid| Fault {
            line: Some(line),
            object: Some(invalid.object),
            reason: format!("{}: {}", invalid.field, invalid.problem),
        })?;
        for mut object in converted.objects {
            object.share_texts(&mut self.texts);
            let id = object.id();
            if let Some(first) = self.content.lines.insert(id.clone(), line) {
                return Err(Fault {
                    line: Some(line),
                    object: Some(id.to_string()),
                    reason: format!("is already in this file, in the document at line {first}; remove one"),
                });
            }
            self.content.objects.insert(id, object);
        }
        for notice in converted.notices {
            match notice {
                Notice::IgnoredKind { api_version, kind, .. } => {
                    self.ignored.entry((api_version, kind)).or_insert((line, 0)).1 += 1;
                }
                Notice::Skipped { object, field, reason } => self.content.notices.push(Fault {
                    line: Some(line),
                    object: Some(object),
                    reason: format!("{field}: {reason}"),
                }),
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Content, Fault> {
        let Self { mut content, ignored, fault, .. } = self;
        if let Some(fault) = fault {
            return Err(fault);
        }
        // One notice a kind: people point us at directories full of other things.
        content.notices.extend(ignored.into_iter().map(|((api_version, kind), (line, count))| Fault {
            line: Some(line),
            object: None,
            reason: format!("{count} of kind {kind} ({api_version}) ignored; Balancing does not read them"),
        }));
        if content.notices.len() > MAX_NOTICES {
            let more = content.notices.len() - MAX_NOTICES;
            content.notices.truncate(MAX_NOTICES);
            let reason = format!("{more} more notices about this file are left out");
            content.notices.push(Fault { line: None, object: None, reason });
        }
        Ok(content)
    }
}

fn options() -> Options {
    serde_saphyr::options! {
        // `yes` is a text in YAML 1.2; where a boolean is wanted, it is an error.
        strict_booleans: true,
        emit_comments: false,
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPEATED },
        budget: serde_saphyr::budget! {
            max_events: usize::MAX,
            max_documents: usize::MAX,
            max_total_scalar_bytes: usize::MAX,
            max_nodes: MAX_NODES,
            max_depth: MAX_DEPTH,
        },
    }
}

#[cfg(test)]
mod tests;
