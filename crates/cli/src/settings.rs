//! Settings of the agent as flags, for it and for the verbs that need to know some of them.
//!
//! The list is [`agent::config::SETTINGS`]; nothing of it is repeated here. What a flag does not say comes from the
//! environment and from the configuration file, for every verb.

use std::{collections::BTreeMap, marker::PhantomData, path::PathBuf};

use agent::config::{Effective, FILE_VARIABLE, Kind, SETTINGS, Setting, resolve};
use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches,
    error::{Error, ErrorKind},
};

/// Which settings a verb takes as flags.
pub(crate) trait Subset {
    /// Does it take this one?
    fn has(flag: &str) -> bool;
}

/// All of them: the agent.
#[derive(Clone, Debug)]
pub(crate) struct All;

impl Subset for All {
    fn has(_: &str) -> bool {
        true
    }
}

/// The settings that hold for a verb, of which it takes `S` as flags.
#[derive(Clone, Debug)]
pub(crate) struct Settings<S> {
    pub(crate) effective: Effective,
    subset: PhantomData<S>,
}

impl<S: Subset> Args for Settings<S> {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help(format!("Configuration file, see docs/configuration.md [env: {FILE_VARIABLE}]"));
        let flags = SETTINGS.iter().filter(|setting| S::has(&setting.flag())).map(flag);
        command.args(flags).arg(file)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn flag(setting: &'static Setting) -> Arg {
    let default = format!(" [default: {}]", setting.default_text());
    let arg = Arg::new(setting.flag())
        .long(setting.flag())
        .value_name(setting.placeholder)
        .help(format!("{} [env: {}]{default}", setting.help(), setting.variable()))
        // So that a bad one is wrong usage, in clap's words.
        .value_parser(move |text: &str| match setting.check(&[text]) {
            Ok(()) => Ok(text.to_owned()),
            Err(right) => Err(right),
        });
    match setting.kind {
        Kind::List => arg.action(ArgAction::Append),
        Kind::Switch => {
            arg.value_name("true|false").num_args(0..=1).require_equals(true).default_missing_value("true")
        }
        Kind::Text | Kind::Number => arg,
    }
}

impl<S: Subset> FromArgMatches for Settings<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut flags: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for flag in SETTINGS.iter().map(Setting::flag).filter(|flag| S::has(flag)) {
            if let Some(texts) = matches.get_many::<String>(&flag) {
                flags.insert(flag, texts.cloned().collect());
            }
        }
        let of_environment = || std::env::var_os(FILE_VARIABLE).filter(|path| !path.is_empty());
        let file = matches.get_one("config").cloned().or_else(|| of_environment().map(PathBuf::from));
        let effective = resolve(&flags, |name| std::env::var_os(name), file.as_deref()).map_err(|error| {
            let text = format!("{error}\n\nFor more information, try '--help'.\n");
            Error::raw(ErrorKind::ValueValidation, text)
        })?;
        Ok(Self { effective, subset: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
