//! The `iter/cgroup` program.
#![no_std]
#![no_main]
