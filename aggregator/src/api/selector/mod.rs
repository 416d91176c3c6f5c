//! Label and field selectors: parsing with the error texts of Kubernetes, and matching. Pure; no text makes it panic.

mod field;
mod label;
mod lex;
mod narrow;
#[cfg(test)]
mod tests;
mod validate;

pub use field::FieldSelector;
pub use label::LabelSelector;
pub use narrow::narrowing;

/// A selector that does not parse: the text goes to the client as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);
