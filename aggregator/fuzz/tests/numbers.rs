//! Quantities, durations and instants against models that work on decimal digits, and back again.
#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::BytesMut;
use proptest::prelude::*;
use std::time::Duration;
use waggle_aggregator::{
    api::quantity,
    units::{Bytes, NanoCores, RealTime},
};

fn text(write: impl FnOnce(&mut BytesMut)) -> String {
    let mut out = BytesMut::new();
    write(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

/// Quantities end at the largest signed integer.
fn bounded(value: u64) -> String {
    value.min(9_223_372_036_854_775_807).to_string()
}

/// DecimalSI of `digits` × 10^`exponent`: all zeros at the end go into the exponent, and as many come back as make it a
/// multiple of three.
fn decimal(digits: &str, exponent: i32) -> String {
    let mantissa = digits.trim_end_matches('0');
    if mantissa.is_empty() {
        return "0".to_owned();
    }
    let stripped = i32::try_from(digits.len() - mantissa.len()).unwrap();
    let back = (exponent + stripped).rem_euclid(3);
    let suffix = match exponent + stripped - back {
        -9 => "n",
        -6 => "u",
        -3 => "m",
        0 => "",
        3 => "k",
        6 => "M",
        9 => "G",
        12 => "T",
        15 => "P",
        18 => "E",
        other => panic!("no suffix for 10^{other}"),
    };
    format!("{mantissa}{}{suffix}", "0".repeat(usize::try_from(back).unwrap()))
}

/// BinarySI: halved ten times for as long as no half is left; below 1024 as a decimal.
fn binary(value: u64) -> String {
    let mut value = u128::from(value.min(9_223_372_036_854_775_807));
    if value < 1024 {
        return decimal(&value.to_string(), 0);
    }
    let mut suffixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].iter();
    let mut suffix = suffixes.next();
    while value.is_multiple_of(1024) {
        value >>= 10;
        suffix = suffixes.next();
    }
    format!("{value}{}", suffix.unwrap())
}

/// What a reader makes of a quantity, in 10⁻⁹.
fn value(text: &str) -> u128 {
    let end = text.find(char::is_alphabetic).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let number: u128 = number.parse().unwrap();
    let (base, power) = match suffix.chars().next() {
        None => (1000, 3),
        Some('n') => (1000, 0),
        Some('u') => (1000, 1),
        Some('m') => (1000, 2),
        Some(prefix) if suffix.ends_with('i') => {
            return number
                * 1_000_000_000
                * 1024_u128.pow(1 + u32::try_from("KMGTPE".find(prefix).unwrap()).unwrap());
        }
        Some(prefix) => (1000_u128, 4 + u32::try_from("kMGTPE".find(prefix).unwrap()).unwrap()),
    };
    number * base.pow(power)
}

/// Numbers as they come, with zeros at the end in either base.
fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0..5000_u64,
        (any::<u32>(), 0..10_u32).prop_map(|(mantissa, zeros)| u64::from(mantissa) * 10_u64.pow(zeros)),
        (0..2048_u64, 0..7_u32).prop_map(|(mantissa, ten)| mantissa << (ten * 10).min(52)),
    ]
}

/// As Go's `time.Duration.String` writes it, from the digits of the whole number of nanoseconds.
fn duration(nanos: u64) -> String {
    let fraction = |value: u64, digits: usize| {
        let all = format!("{value:0width$}", width = digits + 1);
        let (whole, part) = all.split_at(all.len() - digits);
        let part = part.trim_end_matches('0');
        if part.is_empty() { whole.to_owned() } else { format!("{whole}.{part}") }
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(nanos, 3)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(nanos, 6)),
        _ => {
            let minute = 60_000_000_000;
            let seconds = format!("{}s", fraction(nanos % minute, 9));
            match nanos / minute {
                0 => seconds,
                minutes @ 1..60 => format!("{minutes}m{seconds}"),
                minutes => format!("{}h{}m{seconds}", minutes / 60, minutes % 60),
            }
        }
    }
}

/// RFC 3339 of whole seconds since 1970, counting years and months one by one.
fn instant(seconds: u64) -> String {
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= if leap(year) { 366 } else { 365 } {
        days -= if leap(year) { 366 } else { 365 };
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}Z", days + 1, rest / 3600, rest / 60 % 60, rest % 60)
}

proptest! {
    #[test]
    fn cpu_is_canonical_and_exact(nanos in numbers()) {
        let written = text(|out| quantity::cpu(NanoCores(nanos)).write(out));
        prop_assert_eq!(&written, &decimal(&bounded(nanos), -9));
        prop_assert_eq!(value(&written), bounded(nanos).parse::<u128>().unwrap());
        prop_assert_eq!(quantity::cpu(NanoCores(nanos)).length(), written.len());
    }

    #[test]
    fn memory_is_canonical_and_exact(bytes in numbers()) {
        let written = text(|out| quantity::memory(Bytes(bytes)).write(out));
        prop_assert_eq!(&written, &binary(bytes));
        prop_assert_eq!(value(&written), bounded(bytes).parse::<u128>().unwrap() * 1_000_000_000);
        prop_assert_eq!(quantity::memory(Bytes(bytes)).length(), written.len());
    }

    #[test]
    fn durations_are_written_as_go_writes_them_and_read_back(
        nanos in prop_oneof![any::<u32>().prop_map(u64::from), 0..i64::MAX.cast_unsigned(), numbers().prop_map(|n| n >> 1)],
    ) {
        let written = text(|out| quantity::duration(out, Duration::from_nanos(nanos)));
        prop_assert_eq!(&written, &duration(nanos));
        prop_assert_eq!(waggle_proto::duration::parse(&written), Some(Duration::from_nanos(nanos)), "{}", written);
    }

    #[test]
    fn instants_are_written_in_utc_and_cut_to_seconds(seconds in 0..18_446_744_073_u64, nanos in 0..1_000_000_000_u64) {
        let written = text(|out| quantity::instant(out, RealTime(seconds * 1_000_000_000 + nanos.min(709_551_615))));
        prop_assert_eq!(&written, &instant(seconds));
        prop_assert_eq!(u64::try_from(written.parse::<jiff::Timestamp>().unwrap().as_second()).unwrap(), seconds);
    }

    #[test]
    fn no_text_breaks_the_reader_of_durations(text in "[0-9a-zµ.+-]{0,12}", any in any::<String>()) {
        for text in [text, any] {
            if let Some(read) = waggle_proto::duration::parse(&text) {
                prop_assert!(!text.is_empty() && !text.contains('-'), "{:?} is {:?}", text, read);
            }
        }
    }
}
