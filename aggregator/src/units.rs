//! Quantities with their units in the type.

use std::{fmt, ops::Add, time::Duration};

/// CPU use: 10⁻⁹ cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct NanoCores(pub u64);

/// An amount of memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Bytes(pub u64);

/// An instant of a node's `CLOCK_BOOTTIME` in ns: comparable within one boot of one node only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct BootTime(pub u64);

/// An instant in ns since the Unix epoch. For stamps, never for differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct RealTime(pub u64);

/// A container id: the runtime's 64 hex digits as 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(pub [u8; 32]);

impl ContainerId {
    /// From `containerStatuses[].containerID` (`<runtime>://<64 hex digits>`); `None` for anything else.
    pub fn from_status(text: &str) -> Option<Self> {
        let hex = text.rsplit_once("://").map_or(text, |(_, id)| id).as_bytes();
        if hex.len() != 64 {
            return None;
        }
        let mut id = [0; 32];
        for (byte, pair) in id.iter_mut().zip(hex.chunks_exact(2)) {
            let digit = |c: u8| char::from(c).to_digit(16);
            *byte = u8::try_from(digit(*pair.first()?)? * 16 + digit(*pair.get(1)?)?).ok()?;
        }
        Some(Self(id))
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A cgroup's 64-bit id: unique within one boot of one node. A restarted container has a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CgroupId(pub u64);

/// The kernel's random id of one boot (`/proc/sys/kernel/random/boot_id`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BootId(Box<str>);

impl BootId {
    /// From its text: 36 characters, hex digits and dashes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let plausible = text.len() == 36 && text.bytes().all(|c| c.is_ascii_hexdigit() || c == b'-');
        plausible.then(|| Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl RealTime {
    /// Whole seconds since the epoch.
    pub fn seconds(self) -> i64 {
        i64::try_from(self.0 / 1_000_000_000).unwrap_or(i64::MAX)
    }
}

impl BootTime {
    /// The time from `earlier` to this instant; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for BootTime {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}
