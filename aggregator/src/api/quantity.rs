//! Numbers, durations and instants as Kubernetes writes them, appended to a byte buffer without allocating. Pure: knows
//! neither the formats nor the objects that hold them.
//!
//! The canonical forms are those of `resource.Quantity` (kubernetes/apimachinery, `pkg/api/resource/quantity.go`) and
//! of Go's `time.Duration.String`.

use std::time::Duration;

use bytes::BytesMut;
use jiff::{Timestamp, tz::Offset};

use crate::units::{Bytes, NanoCores, RealTime};

/// Suffixes of powers of 1000 from 10⁻⁹ up; an `i64` never needs more.
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
/// Index of the empty suffix in [`DECIMAL`].
const ONES: usize = 3;
/// Suffixes of powers of 1024.
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// Quantities are signed 64-bit in Kubernetes; above that a value is stated as this maximum.
const MAX: u64 = i64::MAX.cast_unsigned();

/// A number in its canonical form: its text is `number` followed by `suffix`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantity {
    number: u64,
    suffix: &'static str,
}

impl Quantity {
    /// Appends its text.
    #[inline]
    pub fn write(&self, out: &mut BytesMut) {
        let digits = digits(self.number);
        // In one piece of fixed length, of which the end is dropped: faster than two copies of any length.
        let mut text = [0; LONGEST + 2];
        put(&mut text, self.number, digits);
        for (to, byte) in text.iter_mut().skip(digits).zip(self.suffix.bytes()) {
            *to = byte;
        }
        let end = out.len() + digits + self.suffix.len();
        out.extend_from_slice(&text);
        out.truncate(end);
    }

    /// The length of its text.
    #[inline]
    pub fn length(&self) -> usize {
        digits(self.number) + self.suffix.len()
    }
}

/// Digits of the largest number.
const LONGEST: usize = 20;

/// How many digits a number has.
#[inline]
fn digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// Writes a number of this many digits to the begin of `text`, two digits at a time.
#[inline]
fn put(text: &mut [u8], mut number: u64, digits: usize) {
    let text = text.get_mut(..digits).unwrap_or_default();
    for pair in text.rchunks_mut(2) {
        let two = PAIRS.get((number % 100) as usize).copied().unwrap_or_default();
        match pair {
            [tens, ones] => [*tens, *ones] = two,
            [one] => *one = two[1],
            _ => {}
        }
        number /= 100;
    }
}

/// `00` to `99`.
static PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number as usize] = [b'0' + number / 10, b'0' + number % 10];
        number += 1;
    }
    pairs
};

/// CPU use in DecimalSI: `250m`, `1234624492n`, `1`.
#[inline]
pub fn cpu(value: NanoCores) -> Quantity {
    decimal(value.0, 0)
}

/// An amount of memory in BinarySI: `50Mi`, `10485761`; below 1024 in DecimalSI (1000 is `1k`).
#[inline]
pub fn memory(value: Bytes) -> Quantity {
    let mut number = value.0.min(MAX);
    if number < 1024 {
        return decimal(number, ONES);
    }
    let mut suffix = 0;
    while number.is_multiple_of(1024) {
        number /= 1024;
        suffix += 1;
    }
    Quantity { number, suffix: BINARY.get(suffix).copied().unwrap_or_default() }
}

/// The shortest mantissa with an exponent that is a multiple of three: dividing by 1000 while nothing is lost comes to
/// the same as stripping all zeros and putting one or two back.
#[inline]
fn decimal(number: u64, mut suffix: usize) -> Quantity {
    let mut number = number.min(MAX);
    if number == 0 {
        return Quantity { number, suffix: "" };
    }
    while number.is_multiple_of(1000) && suffix + 1 < DECIMAL.len() {
        number /= 1000;
        suffix += 1;
    }
    Quantity { number, suffix: DECIMAL.get(suffix).copied().unwrap_or_default() }
}

/// Appends a duration as Go prints it: `14.998s`, `1m0s`, `500ms`, `0s`.
pub fn duration(out: &mut BytesMut, value: Duration) {
    let nanos = value.as_nanos();
    let below = |unit: u32| (value.subsec_nanos(), unit);
    match nanos {
        0 => out.extend_from_slice(b"0s"),
        1..1_000 => {
            integer(out, u64::from(value.subsec_nanos()));
            out.extend_from_slice(b"ns");
        }
        1_000..1_000_000 => fraction(out, 0, below(1_000), "µs"),
        1_000_000..1_000_000_000 => fraction(out, 0, below(1_000_000), "ms"),
        _ => {
            let (seconds, minutes) = (value.as_secs() % 60, value.as_secs() / 60);
            if minutes >= 60 {
                integer(out, minutes / 60);
                out.extend_from_slice(b"h");
            }
            if minutes > 0 {
                integer(out, minutes % 60);
                out.extend_from_slice(b"m");
            }
            fraction(out, seconds, below(1_000_000_000), "s");
        }
    }
}

/// Appends `whole` plus `parts / unit` with the digits that matter, then the unit's name.
fn fraction(out: &mut BytesMut, whole: u64, (parts, unit): (u32, u32), name: &str) {
    integer(out, whole + u64::from(parts / unit));
    let mut rest = parts % unit;
    if rest > 0 {
        let mut digits = unit.ilog10() as usize;
        while rest.is_multiple_of(10) {
            rest /= 10;
            digits -= 1;
        }
        out.extend_from_slice(b".");
        padded(out, u64::from(rest), digits);
    }
    out.extend_from_slice(name.as_bytes());
}

/// Appends an instant as RFC 3339 in UTC, cut to whole seconds: `2026-05-04T10:00:01Z`.
pub fn instant(out: &mut BytesMut, at: RealTime) {
    let seconds = i64::try_from(at.0 / 1_000_000_000).unwrap_or(i64::MAX);
    let civil = Offset::UTC.to_datetime(Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX));
    padded(out, civil.year().unsigned_abs().into(), 4);
    for (mark, part) in
        [(b"-", civil.month()), (b"-", civil.day()), (b"T", civil.hour()), (b":", civil.minute())]
    {
        out.extend_from_slice(mark);
        padded(out, part.unsigned_abs().into(), 2);
    }
    out.extend_from_slice(b":");
    padded(out, civil.second().unsigned_abs().into(), 2);
    out.extend_from_slice(b"Z");
}

/// Appends an integer.
#[inline]
pub fn integer(out: &mut BytesMut, number: u64) {
    Quantity { number, suffix: "" }.write(out);
}

fn padded(out: &mut BytesMut, number: u64, width: usize) {
    for _ in digits(number)..width {
        out.extend_from_slice(b"0");
    }
    integer(out, number);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(write: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        write(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    /// A quantity's text, which has the length that was said before.
    fn written(quantity: Quantity) -> String {
        let text = text(|out| quantity.write(out));
        assert_eq!(text.len(), quantity.length(), "{text}");
        text
    }

    #[test]
    fn cpu_is_decimal_si() {
        for (nanos, expected) in [
            (0, "0"),
            (1, "1n"),
            (122, "122n"),
            (1_234_624_492, "1234624492n"),
            (1_500_000, "1500u"),
            (250_000_000, "250m"),
            (1_000_000_000, "1"),
            (1_500_000_000, "1500m"),
            (2_000_000_000_000, "2k"),
            (9_000_000_000_000_000_000, "9G"),
            (u64::MAX, "9223372036854775807n"),
        ] {
            assert_eq!(written(cpu(NanoCores(nanos))), expected, "{nanos}");
        }
    }

    #[test]
    fn memory_is_binary_si() {
        for (bytes, expected) in [
            (0, "0"),
            (1, "1"),
            (1000, "1k"),
            (1023, "1023"),
            (1024, "1Ki"),
            (10_485_761, "10485761"),
            (3_221_221_965, "3221221965"),
            (3_145_732 * 1024, "3145732Ki"),
            (52_428_800, "50Mi"),
            (1 << 62, "4Ei"),
            (u64::MAX, "9223372036854775807"),
        ] {
            assert_eq!(written(memory(Bytes(bytes))), expected, "{bytes}");
        }
    }

    #[test]
    fn durations_are_written_as_go_does() {
        for (value, expected) in [
            (Duration::ZERO, "0s"),
            (Duration::from_nanos(1), "1ns"),
            (Duration::from_nanos(1_100), "1.1µs"),
            (Duration::from_micros(2_020), "2.02ms"),
            (Duration::from_millis(500), "500ms"),
            (Duration::from_secs(10), "10s"),
            (Duration::from_millis(14_998), "14.998s"),
            (Duration::new(1, 1), "1.000000001s"),
            (Duration::from_mins(1), "1m0s"),
            (Duration::from_millis(61_500), "1m1.5s"),
            (Duration::from_hours(1), "1h0m0s"),
            (Duration::from_secs(100 * 3600 + 62), "100h1m2s"),
        ] {
            assert_eq!(text(|out| duration(out, value)), expected);
        }
    }

    #[test]
    fn instants_are_cut_to_whole_seconds() {
        let at = RealTime(1_777_888_801_999_999_999);
        assert_eq!(text(|out| instant(out, at)), "2026-05-04T10:00:01Z");
        assert_eq!(text(|out| instant(out, RealTime(0))), "1970-01-01T00:00:00Z");
        assert_eq!(text(|out| instant(out, RealTime(951_782_400_000_000_000))), "2000-02-29T00:00:00Z");
    }

    /// The value that a reader computes, in 10⁻⁹: exact, in 128 bits.
    fn read(text: &str) -> u128 {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let number: u128 = digits.parse().unwrap();
        let nano = 1_000_000_000;
        match &text[digits.len()..] {
            "n" => number,
            "u" => number * 1_000,
            "m" => number * 1_000_000,
            "" => number * nano,
            "k" => number * nano * 1_000,
            "M" => number * nano * 1_000_000,
            "G" => number * nano * 1_000_000_000,
            binary => {
                let power = 1 + "KMGTPE".find(&binary[..1]).unwrap();
                assert_eq!(&binary[1..], "i");
                number * nano * 1024_u128.pow(u32::try_from(power).unwrap())
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_on_the_way(mantissa in 0..=MAX, zeros in 0_u32..19) {
            let number = mantissa / 10_u64.pow(zeros) * 10_u64.pow(zeros);
            let cpu_text = written(cpu(NanoCores(number)));
            prop_assert_eq!(read(&cpu_text), u128::from(number));
            prop_assert!(!cpu_text.contains("000") || !cpu_text.trim_end_matches(char::is_alphabetic).ends_with("000"));

            let shift = zeros * 3;
            let bytes = (mantissa >> shift) << shift;
            let memory_text = written(memory(Bytes(bytes)));
            prop_assert_eq!(read(&memory_text), u128::from(bytes) * 1_000_000_000);
        }

        #[test]
        fn durations_add_up_again(nanos in 0_u64..10_000_000_000_000) {
            let printed = text(|out| duration(out, Duration::from_nanos(nanos)));
            let mut rest = printed.as_str();
            let mut total = 0.0;
            while !rest.is_empty() {
                let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap();
                let (number, tail) = rest.split_at(end);
                let stop = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
                let unit = match &tail[..stop] {
                    "h" => 3600e9,
                    "m" => 60e9,
                    "s" => 1e9,
                    "ms" => 1e6,
                    "µs" => 1e3,
                    "ns" => 1.0,
                    other => panic!("no unit: {other}"),
                };
                total += number.parse::<f64>().unwrap() * unit;
                rest = &tail[stop..];
            }
            prop_assert!((total - nanos as f64).abs() < 0.5, "{} for {}", printed, nanos);
        }
    }
}
