//! Waggle's aggregator.

fn main() {}
