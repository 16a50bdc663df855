use std::collections::BTreeMap;

use clap::{Arg, ArgMatches, Args, Command, error::Error};

use super::{Setting, TABLE};

/// One flag per row of the table, after any verb: `--kafka-brokers`, ...
#[derive(Debug, Clone, Default)]
pub struct Flags(pub BTreeMap<&'static str, String>);

fn flag(setting: &Setting) -> Arg {
    let default = if setting.default.is_empty() { String::new() } else { format!(", default {}", setting.default) };
    // a switch may stand alone; a value after a blank could as well be the next argument
    let is_switch = matches!(setting.default, "true" | "false");
    let arg = Arg::new(setting.key);
    let arg = if is_switch { arg.num_args(0..=1).require_equals(true).default_missing_value("true") } else { arg };
    arg.long(setting.key.replace('_', "-"))
        .value_name("VALUE")
        .help(format!("{} [{}{default}]", setting.help, setting.variable))
        .help_heading("Settings (flag, then environment, then headwater.toml)")
        .hide_short_help(true)
        .global(true)
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        command.args(TABLE.iter().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = |setting: &Setting| Some((setting.key, matches.get_one::<String>(setting.key)?.clone()));
        Ok(Self(TABLE.iter().filter_map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.extend(Self::from_arg_matches(matches)?.0);
        Ok(())
    }
}
