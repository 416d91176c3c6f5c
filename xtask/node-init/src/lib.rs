//! What a virtual machine's first program and the host share: the words of the control channel, and work whose use of
//! CPU and memory is known beforehand. A crate apart from the lab, so that it is built for every architecture of the
//! kernel matrix in seconds.

pub mod control;
pub mod work;
