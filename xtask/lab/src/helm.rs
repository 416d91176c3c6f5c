//! The program helm, with folders of its own: what a person has set up for theirs says nothing here.

use std::process::Command;

use anyhow::Result;

use crate::paths::place;

/// A command to which arguments are added, and `KUBECONFIG` where it shall ask a cluster.
pub fn command() -> Result<Command> {
    let state = place("WAGGLE_STATE")?.join("helm");
    let mut command = Command::new(place("WAGGLE_HELM")?);
    for (name, folder) in
        [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
    {
        command.env(name, state.join(folder));
    }
    Ok(command)
}
