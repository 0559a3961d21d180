//! `balancing check`: what is wrong with manifests, without a cluster and without an agent.
//!
//! Policies are judged as the webhook judges them: by the rules of their definitions, CEL included, and beside each other. All
//! else is read as the agent reads it.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use api::{
    Invalid, Notice,
    policy::{Claim, admission, is_policy, unknown_fields},
};
use serde::Serialize;
use serde_json::Value;
use source::manifests::{Fault, documents, is_manifest};

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// What is wrong. Empty: all is right.
    pub problems: Vec<Finding>,
    /// What has no effect, though it is valid.
    pub notices: Vec<Finding>,
    /// How many objects were looked at.
    pub objects: usize,
    /// How many are of kinds that Balancing does not read.
    pub ignored: usize,
}

/// Something to say about an object. Prints as one line.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Finding {
    /// The file; `-`: standard input.
    pub file: String,
    /// The line: of the mistake if it is one of syntax, else of the document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Kind and name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Path of the field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What is to be said of it.
    pub text: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        for part in [&self.object, &self.field].into_iter().flatten() {
            write!(f, ": {part}")?;
        }
        write!(f, ": {}", self.text)
    }
}

/// Looks at files, and at the manifests in directories; `-` is `input`.
pub fn check(paths: &[PathBuf], mut input: impl io::Read) -> Report {
    let mut checker = Checker::default();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            let read = input.read_to_string(&mut text).map(|_| text);
            checker.read("-", read);
            continue;
        }
        match files(path) {
            Ok(files) if files.is_empty() => {
                let error = "has no manifests: no file that ends with .yaml, .yml or .json";
                checker.unread(&path.display().to_string(), None, error);
            }
            Ok(files) => {
                files.iter().for_each(|path| {
                    checker.read(&path.display().to_string(), fs::read_to_string(path));
                });
            }
            Err(error) => checker.unread(&path.display().to_string(), None, &error.to_string()),
        }
    }
    checker.report
}

/// A file is itself, whatever it is called; a directory is what the agent would read of it.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if is_manifest(&entry.file_name()) && entry.path().is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

#[derive(Default)]
struct Checker {
    report: Report,
    /// What the policies before claim.
    claims: Vec<Claim>,
    /// Where objects are.
    places: HashMap<String, String>,
}

/// A document.
struct Place<'a> {
    file: &'a str,
    line: u64,
}

impl Place<'_> {
    fn invalid(&self, it: Invalid) -> Finding {
        self.finding(it.object, it.field, it.problem)
    }

    fn finding(&self, object: String, field: String, text: String) -> Finding {
        let file = self.file.to_owned();
        Finding { file, line: Some(self.line), object: Some(object), field: Some(field), text }
    }
}

impl Checker {
    fn unread(&mut self, file: &str, line: Option<u64>, text: &str) {
        let (file, text) = (file.to_owned(), text.to_owned());
        self.report.problems.push(Finding { file, line, object: None, field: None, text });
    }

    fn read(&mut self, file: &str, text: io::Result<String>) {
        let text = match text {
            Ok(text) if text.trim().is_empty() => return self.unread(file, None, "is empty"),
            Ok(text) => text,
            Err(error) => return self.unread(file, None, &error.to_string()),
        };
        match documents(&text) {
            Ok(documents) => {
                for (line, document) in documents {
                    api::items(document).into_iter().for_each(|item| self.item(&Place { file, line }, item));
                }
            }
            Err(Fault { line, reason, .. }) => self.unread(file, line, &reason),
        }
    }

    fn item(&mut self, place: &Place<'_>, item: Value) {
        if is_policy(&item) {
            self.policy(place, &item);
        } else {
            self.other(place, item);
        }
    }

    fn policy(&mut self, place: &Place<'_>, policy: &Value) {
        self.report.objects += 1;
        let wrong = admission::validate(policy, None, &self.claims);
        self.report.problems.extend(wrong.into_iter().map(|it| place.invalid(it)));
        self.notices(place, unknown_fields(policy));
        if let Some(claim) = Claim::of(policy) {
            self.once(place, claim.to_string());
            self.claims.push(claim);
        }
    }

    fn other(&mut self, place: &Place<'_>, item: Value) {
        match api::convert(item) {
            Ok(converted) => {
                self.report.objects += converted.objects.len();
                converted.objects.iter().for_each(|object| self.once(place, object.id().to_string()));
                self.notices(place, converted.notices);
            }
            Err(invalid) => {
                self.report.objects += 1;
                self.report.problems.push(place.invalid(invalid));
            }
        }
    }

    fn notices(&mut self, place: &Place<'_>, notices: Vec<Notice>) {
        for notice in notices {
            match notice {
                Notice::IgnoredKind { .. } => self.report.ignored += 1,
                Notice::Skipped { object, field, reason } => {
                    self.report.notices.push(place.finding(object, field, reason));
                }
            }
        }
    }

    /// Of one object that is there twice only one counts.
    fn once(&mut self, place: &Place<'_>, object: String) {
        let here = format!("{}:{}", place.file, place.line);
        match self.places.get(&object) {
            Some(there) => {
                let text = format!("is already in {there}; remove one");
                let field = "metadata.name".to_owned();
                self.report.problems.push(place.finding(object, field, text));
            }
            None => drop(self.places.insert(object, here)),
        }
    }
}

#[cfg(test)]
mod tests;
