//! Resource versions: which state of this process a client has seen. Opaque to clients, but decimal numbers that only
//! grow, since client libraries parse and compare them. Pure.
//!
//! The upper bits are the *epoch*, drawn at random for each log of each process: a version of another replica, of the
//! process before a restart, or of the other resource is thus told apart and answered with 410, never with wrong data.

use std::fmt;

/// Bits of the sequence number: at 30,000 changes a second it lasts 26 days, then a new epoch begins.
const SEQUENCE_BITS: u32 = 36;
/// Bits of the epoch: with the sequence 63, for clients that read versions as signed numbers.
const EPOCH_BITS: u32 = 27;

/// Largest sequence number of an epoch.
pub const LAST_SEQUENCE: u64 = (1 << SEQUENCE_BITS) - 1;

/// Which log a version is of. Never zero, so that no version reads as `0`, which means "any".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// From random bits.
    pub const fn new(random: u64) -> Self {
        Self(random % ((1 << EPOCH_BITS) - 1) + 1)
    }

    /// The version of this epoch with that sequence number.
    pub const fn version(self, sequence: u64) -> ResourceVersion {
        ResourceVersion(self.0 << SEQUENCE_BITS | sequence & LAST_SEQUENCE)
    }

    /// The sequence number of a version of this epoch; `None` for any other.
    pub const fn sequence(self, version: ResourceVersion) -> Option<u64> {
        if version.0 >> SEQUENCE_BITS == self.0 { Some(version.0 & LAST_SEQUENCE) } else { None }
    }
}

/// `metadata.resourceVersion`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceVersion(u64);

impl ResourceVersion {
    /// From its text; `None` for anything but a decimal number below 2⁶⁴.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten().map(Self)
    }

    /// As a number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ResourceVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts() {
        for (text, read) in [
            ("0", Some(ResourceVersion(0))),
            ("17", Some(ResourceVersion(17))),
            ("18446744073709551615", Some(ResourceVersion(u64::MAX))),
            ("18446744073709551616", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("1.5", None),
            ("zzz", None),
        ] {
            assert_eq!(ResourceVersion::parse(text), read, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_version_is_known_by_its_epoch_alone(random: u64, other: u64, sequence in 0..=LAST_SEQUENCE) {
            let (epoch, other) = (Epoch::new(random), Epoch::new(other));
            let version = epoch.version(sequence);
            prop_assert!(version.0 > 0 && version.0 < 1 << 63);
            prop_assert_eq!(ResourceVersion::parse(&version.to_string()), Some(version));
            prop_assert_eq!(epoch.sequence(version), Some(sequence));
            prop_assert_eq!(other.sequence(version), (other == epoch).then_some(sequence));
            prop_assume!(sequence < LAST_SEQUENCE);
            prop_assert!(version < epoch.version(sequence + 1));
        }
    }
}
