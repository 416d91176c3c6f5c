//! JSON text and protocol buffers, byte by byte. Knows the two formats and nothing of what is written in them. Pure.

pub mod json;
pub mod protobuf;
