//! `docs/configuration.md` has every flag of both programs, in clap's own words. `WAGGLE_UPDATE=1` writes it again.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command, CommandFactory as _};

use crate::render::{read, update};

const PLACE: &str = "docs/configuration.md";
/// What stands between these is made here.
const BEGIN: &str = "<!-- flags: begin -->\n";
const END: &str = "<!-- flags: end -->\n";

#[test]
fn the_reference_has_every_flag() {
    let text = read(PLACE);
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let made = format!("{before}{BEGIN}{}{END}{after}", reference());
    if update(PLACE, &made) {
        return;
    }
    assert!(
        text == made,
        "{PLACE} is not what the programs take: WAGGLE_UPDATE=1 cargo test -p waggle-lab --test manifests reference"
    );
}

fn reference() -> String {
    let mut out = String::new();
    section(&mut out, &waggle_aggregator::args::Args::command(), "waggle-aggregator");
    let agent = waggle_agent::args::Args::command();
    for command in agent.get_subcommands() {
        section(&mut out, command, &format!("waggle-agent {}", command.get_name()));
    }
    assert!(out.matches("| `--").count() > 40, "{out}");
    out
}

fn section(out: &mut String, command: &Command, name: &str) {
    writeln!(out, "\n## `{name}`\n\n{}.", command.get_about().unwrap()).unwrap();
    let mut headings: Vec<Option<&str>> = command.get_arguments().map(Arg::get_help_heading).collect();
    headings.dedup();
    headings.sort_unstable();
    headings.dedup();
    for heading in headings {
        if let Some(heading) = heading {
            writeln!(out, "\n{heading}.").unwrap();
        }
        writeln!(out, "\n| flag | default | meaning |\n| --- | --- | --- |").unwrap();
        let here = |arg: &&Arg| arg.get_help_heading() == heading && !arg.is_hide_set();
        for arg in command.get_arguments().filter(here) {
            row(out, arg);
        }
    }
}

fn row(out: &mut String, arg: &Arg) {
    let long = arg.get_long().unwrap();
    let short = arg.get_short().map(|short| format!("`-{short}`, ")).unwrap_or_default();
    let takes = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    let possible: Vec<String> =
        arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    let value = match (takes, arg.get_value_names()) {
        (true, Some(names)) => {
            format!(" {}", names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        }
        _ => String::new(),
    };
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
    let default = match (takes, defaults.join(" "), arg.is_required_set()) {
        (true, _, true) => "required".to_owned(),
        (true, defaults, false) => defaults,
        (false, ..) => String::new(),
    };
    let mut meaning = arg.get_help().unwrap().to_string().replace('|', "\\|");
    if takes && !possible.is_empty() {
        write!(meaning, ": {}", possible.join(", ")).unwrap();
    }
    if let Some(variable) = arg.get_env() {
        write!(meaning, "; also by the environment: `{}`", variable.to_string_lossy()).unwrap();
    }
    writeln!(out, "| {short}`--{long}{value}` | {default} | {meaning} |").unwrap();
}
