//! Waggle's node agent.

fn main() {}
