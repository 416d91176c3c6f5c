//! Virtual machines as nodes, and scenarios with known truth.
