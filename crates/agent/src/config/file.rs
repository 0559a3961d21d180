//! The configuration file: YAML, one key a setting.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value as Json;
use serde_saphyr::{Spanned, UserMessageFormatter};

use super::{SETTINGS, Setting, value::Kind};

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It can't be read.
    #[error("{call} {}: {source}", path.display())]
    Unreadable {
        /// What was tried.
        call: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not YAML, or not one mapping of keys to values.
    #[error("{}{}: {reason}", path.display(), at_line(.line))]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where.
        line: Option<u64>,
        /// What is wrong.
        reason: String,
    },
    /// A key that nobody knows.
    #[error("{}:{line}: unknown key {key:?}; the nearest that there is: {nearest}", path.display())]
    UnknownKey {
        /// Which file.
        path: PathBuf,
        /// Where.
        line: u64,
        /// The key.
        key: String,
        /// The known key that is most like it.
        nearest: String,
    },
    /// A value that is not what the key takes.
    #[error("{}:{line}: {key}: {problem}", path.display())]
    Value {
        /// Which file.
        path: PathBuf,
        /// Where.
        line: u64,
        /// The key.
        key: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

fn at_line(line: &Option<u64>) -> String {
    line.map_or(String::new(), |line| format!(":{line}"))
}

/// What a file says of one setting.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) setting: &'static Setting,
    pub(super) texts: Vec<String>,
    pub(super) line: u64,
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, FileError> {
    let text = std::fs::read_to_string(path).map_err(|source| FileError::Unreadable {
        call: "read",
        path: path.to_owned(),
        source,
    })?;
    parse(path, &text)
}

/// Reads the text of a file; `path` is for what is said of mistakes.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Entry>, FileError> {
    let options = serde_saphyr::options! { strict_booleans: true, emit_comments: false, with_snippet: false };
    let pairs: Option<Pairs> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| FileError::Syntax {
            path: path.to_owned(),
            line: error.location().map(|location| location.line()),
            reason: error.render_with_formatter(&UserMessageFormatter),
        })?;
    pairs.map_or_else(Vec::new, |pairs| pairs.0).into_iter().map(|pair| entry(path, pair)).collect()
}

fn entry(path: &Path, (key, value): (Spanned<String>, Json)) -> Result<Entry, FileError> {
    let (path, line) = (path.to_owned(), key.referenced.line());
    let key = key.value;
    let Some(setting) = SETTINGS.iter().find(|setting| setting.key() == key) else {
        return Err(FileError::UnknownKey { path, line, nearest: nearest(&key), key });
    };
    match texts(setting, &value).and_then(|texts| check(setting, texts)) {
        Ok(texts) => Ok(Entry { setting, texts, line }),
        Err(problem) => Err(FileError::Value { path, line, key, problem }),
    }
}

fn check(setting: &Setting, texts: Vec<String>) -> Result<Vec<String>, String> {
    let given: Vec<&str> = texts.iter().map(String::as_str).collect();
    setting.check(&given).map_err(|right| format!("{:?}: {right}", texts.join(",")))?;
    Ok(texts)
}

/// The texts of a value, if it is what the setting takes.
fn texts(setting: &Setting, value: &Json) -> Result<Vec<String>, String> {
    let wanted = match setting.kind {
        Kind::Text => "a text",
        Kind::Number => "a whole number",
        Kind::Switch => "true or false",
        Kind::List => "a list of texts",
    };
    match (setting.kind, value) {
        (Kind::Text, Json::String(text)) => Ok(vec![text.clone()]),
        (Kind::Number, Json::Number(number)) if !number.is_f64() => Ok(vec![number.to_string()]),
        (Kind::Switch, Json::Bool(on)) => Ok(vec![on.to_string()]),
        (Kind::List, Json::Array(values)) => {
            let text = |value: &Json| value.as_str().map(str::to_owned);
            values.iter().map(text).collect::<Option<_>>().ok_or_else(|| format!("give {wanted}"))
        }
        (_, Json::Null) => Err(format!("has no value; give {wanted}, or remove the key for its default")),
        (Kind::Text, Json::Number(_) | Json::Bool(_)) => {
            Err(format!("{value} is not a text; put it in quotes if it is meant"))
        }
        (_, value) => Err(format!("{value} is not {wanted}")),
    }
}

/// The known key that is most like `key`, however that writes its words.
pub(super) fn nearest(key: &str) -> String {
    let plain = |key: &str| -> String {
        key.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    let distance = |setting: &&Setting| strsim::damerau_levenshtein(&plain(&setting.key()), &plain(key));
    SETTINGS.iter().min_by_key(distance).map(Setting::key).unwrap_or_default()
}

/// Keys and values in their order.
struct Pairs(Vec<(Spanned<String>, Json)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("keys and values, as `nodeName: n1`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_any(Read)
    }
}
