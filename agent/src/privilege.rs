//! Giving up every capability once the program is loaded and linked: walking needs none.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// Why privileges could not be given up.
#[derive(Debug, thiserror::Error)]
#[error("cannot give up {what}: {source}")]
pub struct PrivilegeError {
    what: &'static str,
    #[source]
    source: io::Error,
}

/// That the thread has given up every capability: what listens takes it, so that nothing can listen before.
///
/// ```compile_fail
/// let unprivileged = waggle_agent::privilege::Unprivileged(());
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Unprivileged(());

/// Drops the bounding (where the thread may), ambient, effective, permitted and inheritable sets, then sets
/// `no_new_privs`. Of the calling thread and of those that it starts later: call it before any thread is started.
pub fn drop_all() -> Result<Unprivileged, PrivilegeError> {
    let failed = |what| move |source: rustix::io::Errno| PrivilegeError { what, source: source.into() };
    let held = capabilities(None).map_err(failed("capabilities that cannot be read"))?;
    if held.effective.contains(CapabilitySet::SETPCAP) {
        for one in CapabilitySet::all() {
            // EINVAL: this kernel is older than the capability.
            match remove_capability_from_bounding_set(one) {
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(error) => return Err(failed("the bounding set")(error)),
            }
        }
    }
    clear_ambient_capability_set().map_err(failed("ambient capabilities"))?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .map_err(failed("capabilities"))?;
    set_no_new_privs(true).map_err(failed("the gain of privileges by exec"))?;
    Ok(Unprivileged(()))
}
