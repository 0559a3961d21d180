//! Types that settings can have.

use std::{path::PathBuf, time::Duration};

use abi::policy::MOST_A_SECOND;
use kernel::Pins;
use model::NodePortAddresses;
use serde_json::Value as Json;

use super::{EventLevel, EventSink};

/// What a setting is in YAML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Text,
    /// A whole number.
    Number,
    /// true or false; on the command line the flag alone means true.
    Switch,
    /// A list of texts; on the command line one flag each, in the environment separated by commas.
    List,
}

/// The value of a setting.
pub trait Value: Sized {
    /// What it is in YAML.
    const KIND: Kind;

    /// From one text, or from any number of a list.
    ///
    /// # Errors
    /// What would be right.
    fn read(texts: &[&str]) -> Result<Self, String>;

    /// For people and machines; null = nothing is set.
    fn show(&self) -> Json;
}

/// A value as people read it.
pub(super) fn text(value: &Json) -> String {
    match value {
        Json::Null => "-".into(),
        Json::String(text) => text.clone(),
        Json::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn single<'a>(texts: &[&'a str]) -> Result<&'a str, String> {
    match texts {
        [] | [""] => Err("give a value".into()),
        [one] => Ok(one),
        _ => Err("give one value".into()),
    }
}

impl Value for String {
    const KIND: Kind = Kind::Text;

    fn read(texts: &[&str]) -> Result<Self, String> {
        single(texts).map(str::to_owned)
    }

    fn show(&self) -> Json {
        self.as_str().into()
    }
}

impl Value for PathBuf {
    const KIND: Kind = Kind::Text;

    fn read(texts: &[&str]) -> Result<Self, String> {
        single(texts).map(Self::from)
    }

    fn show(&self) -> Json {
        self.display().to_string().into()
    }
}

impl Value for Pins {
    const KIND: Kind = Kind::Text;

    fn read(texts: &[&str]) -> Result<Self, String> {
        single(texts).map(Self::new)
    }

    fn show(&self) -> Json {
        self.directory().display().to_string().into()
    }
}

impl Value for EventLevel {
    const KIND: Kind = Kind::Text;

    fn read(texts: &[&str]) -> Result<Self, String> {
        single(texts)?.parse()
    }

    fn show(&self) -> Json {
        self.to_string().into()
    }
}

impl Value for EventSink {
    const KIND: Kind = Kind::Text;

    fn read(texts: &[&str]) -> Result<Self, String> {
        single(texts)?.parse()
    }

    fn show(&self) -> Json {
        self.to_string().into()
    }
}

impl Value for NodePortAddresses {
    const KIND: Kind = Kind::Text;

    fn read(texts: &[&str]) -> Result<Self, String> {
        single(texts)?.parse()
    }

    fn show(&self) -> Json {
        self.to_string().into()
    }
}

/// How many entries of something there is room for: 1 to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entries<const MAX: u32>(pub u32);

impl<const MAX: u32> Value for Entries<MAX> {
    const KIND: Kind = Kind::Number;

    fn read(texts: &[&str]) -> Result<Self, String> {
        let number = single(texts)?.parse().ok().filter(|number| (1..=MAX).contains(number));
        number.map(Self).ok_or_else(|| format!("give a number from 1 to {MAX}"))
    }

    fn show(&self) -> Json {
        self.0.into()
    }
}

/// A number: 0 to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number<const MAX: u32>(pub u32);

impl<const MAX: u32> Value for Number<MAX> {
    const KIND: Kind = Kind::Number;

    fn read(texts: &[&str]) -> Result<Self, String> {
        let number = single(texts)?.parse().ok().filter(|number| *number <= MAX);
        number.map(Self).ok_or_else(|| format!("give a number from 0 to {MAX}"))
    }

    fn show(&self) -> Json {
        self.0.into()
    }
}

/// How large something may be: `64KiB`, `100MiB`, `1GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl Bytes {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
}

impl Value for Bytes {
    const KIND: Kind = Kind::Text;

    fn read(texts: &[&str]) -> Result<Self, String> {
        let text = single(texts)?;
        let of =
            |(unit, size): &(&str, u64)| text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(*size);
        let bytes = Self::UNITS.iter().find_map(of).filter(|bytes| *bytes > 0);
        bytes.map(Self).ok_or_else(|| "give a number with a unit, as 64KiB, 100MiB or 1GiB".into())
    }

    fn show(&self) -> Json {
        let unit = Self::UNITS.into_iter().find(|(_, size)| self.0.is_multiple_of(*size));
        unit.map_or_else(|| self.0.into(), |(unit, size)| format!("{}{unit}", self.0 / size).into())
    }
}

/// Permissions of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u32);

impl Value for Mode {
    const KIND: Kind = Kind::Text;

    fn read(texts: &[&str]) -> Result<Self, String> {
        let mode = u32::from_str_radix(single(texts)?, 8).ok().filter(|mode| *mode <= 0o777);
        mode.map(Self).ok_or_else(|| "give permissions in octal, as 0600 or 0660".into())
    }

    fn show(&self) -> Json {
        format!("{:04o}", self.0).into()
    }
}

/// How many, in a second mostly. What 0 means is the setting's to say: any number, or none.
impl Value for u32 {
    const KIND: Kind = Kind::Number;

    fn read(texts: &[&str]) -> Result<Self, String> {
        let number = single(texts)?.parse().ok().filter(|number| *number <= MOST_A_SECOND);
        number.ok_or_else(|| format!("give a number from 0 to {MOST_A_SECOND}"))
    }

    fn show(&self) -> Json {
        (*self).into()
    }
}

/// A label of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its key.
    pub key: String,
    /// Its value; may be empty.
    pub value: String,
}

impl Value for Label {
    const KIND: Kind = Kind::Text;

    fn read(texts: &[&str]) -> Result<Self, String> {
        let label = single(texts)?.split_once('=').filter(|(key, _)| !key.is_empty());
        let (key, value) = label.ok_or("give KEY=VALUE, as topology.kubernetes.io/zone=z1")?;
        Ok(Self { key: key.into(), value: value.into() })
    }

    fn show(&self) -> Json {
        format!("{}={}", self.key, self.value).into()
    }
}

/// Where something is asked by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(pub String);

impl Value for Url {
    const KIND: Kind = Kind::Text;

    fn read(texts: &[&str]) -> Result<Self, String> {
        let text = single(texts)?;
        let url = text.parse::<hyper::Uri>().ok().filter(|url| {
            matches!(url.scheme_str(), Some("http" | "https"))
                && url.host().is_some_and(|host| !host.is_empty())
        });
        url.map(|_| Self(text.into())).ok_or_else(|| "give a URL, as http://10.0.0.9:4318".into())
    }

    fn show(&self) -> Json {
        self.0.as_str().into()
    }
}

/// A port; 0 = none.
impl Value for u16 {
    const KIND: Kind = Kind::Number;

    fn read(texts: &[&str]) -> Result<Self, String> {
        single(texts)?.parse().map_err(|_| "give a port from 1 to 65535, or 0 for none".into())
    }

    fn show(&self) -> Json {
        (*self).into()
    }
}

impl Value for bool {
    const KIND: Kind = Kind::Switch;

    fn read(texts: &[&str]) -> Result<Self, String> {
        single(texts)?.parse().map_err(|_| "give true or false".into())
    }

    fn show(&self) -> Json {
        (*self).into()
    }
}

/// A number and a unit: `500ms`, `30s`, `5m`, `1h`. 0 needs none.
impl Value for Duration {
    const KIND: Kind = Kind::Text;

    fn read(texts: &[&str]) -> Result<Self, String> {
        let text = single(texts)?;
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "" if number == "0" => 0,
            _ => return Err("give a number with a unit, as 500ms, 30s, 5m or 1h".into()),
        };
        let millis = number.parse().ok().and_then(|number: u64| number.checked_mul(unit));
        millis
            .map(Self::from_millis)
            .ok_or_else(|| "give a number with a unit, as 500ms, 30s, 5m or 1h".into())
    }

    fn show(&self) -> Json {
        let millis = self.as_millis();
        let (number, unit) = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")]
            .into_iter()
            .find(|(size, _)| millis > 0 && millis.is_multiple_of(*size))
            .map_or((millis, "ms"), |(size, unit)| (millis / size, unit));
        if millis == 0 { "0s".into() } else { format!("{number}{unit}").into() }
    }
}

impl<T: Value> Value for Option<T> {
    const KIND: Kind = T::KIND;

    fn read(texts: &[&str]) -> Result<Self, String> {
        T::read(texts).map(Some)
    }

    fn show(&self) -> Json {
        self.as_ref().map_or(Json::Null, Value::show)
    }
}

impl<T: Value> Value for Vec<T> {
    const KIND: Kind = Kind::List;

    fn read(texts: &[&str]) -> Result<Self, String> {
        texts.iter().map(|text| T::read(&[text])).collect()
    }

    fn show(&self) -> Json {
        self.iter().map(Value::show).collect()
    }
}
