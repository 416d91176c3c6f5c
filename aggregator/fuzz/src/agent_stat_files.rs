//! `cpu.stat`, `memory.stat`, `/proc/meminfo`, and files of one number.

use waggle_agent::fuzzing::{number, value};

use crate::{Target, owned};

/// The first line is the key, the rest is the file.
pub const TARGET: Target = Target {
    name: "agent-stat-files",
    run,
    seeds: || {
        owned(&[
            "usage_usec\nusage_usec 12\nuser_usec 7\nsystem_usec 5\n",
            "file\nanon 4096\nfile_mapped 1\nfile 8192\ninactive_file 3\n",
            "inactive_file\nanon 1\ninactive_file 18446744073709551615\n",
            "SwapTotal\nMemTotal:       16384 kB\nSwapTotal:       2048 kB\nSwapFree: 0 kB\n",
            "Inactive(file)\nInactive:  9 kB\nInactive(file): 13 kB\n",
            "\nmax\n",
            "x\n123456\n",
        ])
    },
    words: &[
        "\n",
        " ",
        ":",
        "\t",
        " kB",
        "usage_usec",
        "inactive_file",
        "file",
        "SwapTotal",
        "max",
        "18446744073709551615",
        "18446744073709551616",
    ],
};

fn run(bytes: &[u8]) {
    let (key, text) = bytes.iter().position(|byte| *byte == b'\n').map_or((bytes, &[][..]), |end| {
        let (key, rest) = bytes.split_at(end);
        (key, rest.get(1..).unwrap_or_default())
    });
    assert_eq!(number(text), naive_number(text), "{}", text.escape_ascii());
    let Ok(key) = std::str::from_utf8(key) else { return };
    assert_eq!(value(text, key), naive_value(text, key), "{key:?} in {}", text.escape_ascii());
}

/// The first line that is the key, a colon or not, a blank, and a number: the first line with key and blank decides
/// nothing if it has no number.
fn naive_value(text: &[u8], key: &str) -> Option<u64> {
    for line in text.split(|byte| *byte == b'\n') {
        for separator in [" ", "\t", ": ", ":\t"] {
            let head = [key.as_bytes(), separator.as_bytes()].concat();
            if line.starts_with(&head)
                && let Some(found) = naive_number(line.get(head.len()..).unwrap_or_default())
            {
                return Some(found);
            }
        }
    }
    None
}

/// Blanks, then digits: their value, if it fits.
fn naive_number(text: &[u8]) -> Option<u64> {
    let mut digits = text.iter().skip_while(|byte| byte.is_ascii_whitespace()).peekable();
    digits.peek().filter(|byte| byte.is_ascii_digit())?;
    let mut sum: u64 = 0;
    for digit in digits.take_while(|byte| byte.is_ascii_digit()) {
        sum = sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    Some(sum)
}
