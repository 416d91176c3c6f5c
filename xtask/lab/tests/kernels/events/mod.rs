//! What happens to a node while its agent runs: seen in the agent's own metrics, and for rates in what is served.

mod agent;
mod cgroups;
mod interruptions;
mod served;

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use libtest_mimic::Trial;
use waggle_lab::{
    layout::Layout,
    matrix::{ROWS, Row},
};

use crate::machines::{Kind, Machines};

/// The kernel of these tests.
const LINE: &str = "6.12";
const SECOND: Duration = Duration::from_secs(1);
/// Cgroups of one pod of [`crate::pods::start`]: itself, two containers and the pause container.
const OF_A_POD: u64 = 4;

/// One test for each event.
pub fn trials(machines: &Arc<Machines>) -> Vec<Trial> {
    let Some(row) = ROWS.iter().find(|row| row.line == LINE) else { return Vec::new() };
    let kind = Kind { row, options: "" };
    vec![
        machines.trial("events::kubepods_late_gone_and_back".to_owned(), kind, cgroups::kubepods),
        machines.trial_alone("events::restart_within_an_interval".to_owned(), served::restart),
        machines.trial("events::a_thousand_cgroups_at_once".to_owned(), kind, cgroups::at_once),
        machines.trial("events::more_cgroups_than_slots".to_owned(), kind, cgroups::more_than_slots),
        machines.trial_alone("events::a_pod_replaced_under_its_name".to_owned(), served::replaced),
        machines.trial("events::the_clock_steps_an_hour".to_owned(), kind, interruptions::clock),
        machines.trial("events::suspended_and_resumed".to_owned(), kind, interruptions::suspended),
        machines.trial("events::stopped_and_continued".to_owned(), kind, interruptions::stopped),
        machines.trial("events::a_processor_goes".to_owned(), kind, interruptions::processor),
        machines.trial("events::out_of_memory".to_owned(), kind, interruptions::out_of_memory),
    ]
}

fn layout(row: &Row) -> Result<Layout> {
    row.layout.parse().map_err(anyhow::Error::msg)
}
