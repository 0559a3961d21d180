//! What is known of one setting.

use serde_json::Value as Json;

use super::{Config, value::Kind};

/// One thing that can be set.
pub struct Setting {
    /// Name of the field of [`Config`], from which all other names follow.
    pub(super) field: &'static str,
    /// What stands for the value in help and documentation.
    pub placeholder: &'static str,
    /// What it means, in lines.
    pub(super) help: &'static [&'static str],
    /// The default in words, where its value differs between machines, or is nothing.
    pub(super) words: Option<&'static str>,
    /// What kind of value it has.
    pub kind: Kind,
    /// Reads texts into a configuration.
    pub(super) read: fn(&mut Config, &[&str]) -> Result<(), String>,
    /// The value in a configuration.
    pub(super) show: fn(&Config) -> Json,
}

impl Setting {
    /// Name on the command line, without the dashes.
    pub fn flag(&self) -> String {
        self.field.replace('_', "-")
    }

    /// Name in the environment.
    pub fn variable(&self) -> String {
        format!("BALANCING_{}", self.field.to_uppercase())
    }

    /// Name in the file.
    pub fn key(&self) -> String {
        let mut words = self.field.split('_');
        let first = words.next().unwrap_or_default().to_owned();
        words.fold(first, |key, word| {
            let (initial, rest) = word.split_at(word.len().min(1));
            key + &initial.to_uppercase() + rest
        })
    }

    /// What it means.
    pub fn help(&self) -> String {
        self.help.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }

    /// The default, for help and documentation.
    pub fn default_text(&self) -> String {
        self.words.map_or_else(|| super::value::text(&(self.show)(&Config::default())), str::to_owned)
    }

    /// Whether these texts would be taken.
    ///
    /// # Errors
    /// What would be right.
    pub fn check(&self, texts: &[&str]) -> Result<(), String> {
        (self.read)(&mut Config::default(), texts)
    }
}

impl std::fmt::Debug for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Setting").field(&self.field).finish()
    }
}

/// The setting with this flag.
pub fn setting(flag: &str) -> Option<&'static Setting> {
    super::SETTINGS.iter().find(|setting| setting.flag() == flag)
}

/// Makes [`Config`] and [`SETTINGS`](super::SETTINGS) from one list:
/// `/// help` `name: Type = default, "PLACEHOLDER", default "in words";`. The words are for defaults
/// whose value is nothing, or differs between machines.
macro_rules! settings {
    ($(
        $(#[doc = $help:literal])+
        $field:ident: $type:ty = $default:expr, $placeholder:literal $(, default $words:literal)?;
    )+) => {
        /// The agent's configuration.
        #[derive(Clone, Debug)]
        pub struct Config {
            $($(#[doc = $help])+ pub $field: $type,)+
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        /// All settings, in the order in which they are shown.
        pub static SETTINGS: &[Setting] = &[$(Setting {
            field: stringify!($field),
            placeholder: $placeholder,
            help: &[$($help),+],
            words: settings!(@words $($words)?),
            kind: <$type as Value>::KIND,
            read: |config, texts| {
                config.$field = Value::read(texts)?;
                Ok(())
            },
            show: |config| config.$field.show(),
        },)+];
    };
    (@words) => { None };
    (@words $words:literal) => { Some($words) };
}

pub(super) use settings;
