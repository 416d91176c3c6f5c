//! The record layout that the `iter/cgroup` program and the agent share. No policy, no I/O; builds everywhere.
#![no_std]
#![deny(missing_docs)]
