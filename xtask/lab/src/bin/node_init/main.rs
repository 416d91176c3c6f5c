//! Process 1 of a node in a virtual machine.

fn main() {}
