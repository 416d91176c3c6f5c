//! Kubernetes quantities as the API writes them, read exactly, in integers. Pure.

/// In units of 1, rounded up; `None` for anything that is not a quantity, is negative, or does not fit.
pub(super) fn whole(text: &str) -> Option<u64> {
    scaled(text, 1)
}

/// In units of 10⁻⁹, rounded up; `None` as for [`whole`].
pub(super) fn nano(text: &str) -> Option<u64> {
    scaled(text, 1_000_000_000)
}

fn scaled(text: &str, unit: u128) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '+').unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let number = number.strip_prefix('+').unwrap_or(number);
    let (digits, fraction) = number.split_once('.').unwrap_or((number, ""));
    if digits.len() + fraction.len() == 0 || digits.contains('+') || fraction.contains(['+', '.']) {
        return None;
    }
    let value: u128 = format!("{digits}{fraction}").parse().ok()?;
    let (up, mut down) = multiplier(suffix)?;
    down = down.checked_mul(10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    let value = value.checked_mul(up)?.checked_mul(unit)?;
    u64::try_from(value.div_ceil(down)).ok()
}

/// A suffix as a fraction.
fn multiplier(suffix: &str) -> Option<(u128, u128)> {
    const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some(at) = BINARY.iter().position(|known| *known == suffix) {
        return Some((1 << (10 * (at + 1)), 1));
    }
    let exponent = match DECIMAL.iter().position(|known| *known == suffix) {
        Some(at) => i32::try_from(at).ok()? * 3 - 9,
        None => suffix.strip_prefix(['e', 'E'])?.parse().ok()?,
    };
    let power = 10_u128.checked_pow(exponent.unsigned_abs())?;
    Some(if exponent < 0 { (1, power) } else { (power, 1) })
}

#[cfg(test)]
mod tests {
    use super::{nano, whole};

    #[test]
    fn every_suffix_and_its_rounding() {
        let table = [
            ("0", Some(0)),
            ("110", Some(110)),
            ("1k", Some(1000)),
            ("2M", Some(2_000_000)),
            ("1.5Gi", Some(1_610_612_736)),
            ("16393216Ki", Some(16_786_653_184)),
            ("1e3", Some(1000)),
            ("2E3", Some(2000)),
            ("1E", Some(1_000_000_000_000_000_000)),
            ("15Ei", Some(15 << 60)),
            ("16Ei", None),
            ("1500m", Some(2)),
            ("+5", Some(5)),
            (".5", Some(1)),
            ("5.", Some(5)),
            ("", None),
            (".", None),
            ("-1", None),
            ("1.2.3", None),
            ("1 Gi", None),
            ("1Kib", None),
            ("e3", None),
            ("99999999999999999999999999999999999999999", None),
        ];
        for (text, expected) in table {
            assert_eq!(whole(text), expected, "{text:?}");
        }
        for (text, expected) in
            [("4", 4_000_000_000), ("3920m", 3_920_000_000), ("0.1", 100_000_000), ("7n", 7), ("1u", 1000)]
        {
            assert_eq!(nano(text), Some(expected), "{text:?}");
        }
    }
}
