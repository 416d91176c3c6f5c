//! JSON text by hand, escaped as Go's encoder does it: the bytes are compared with those of Go servers.

use bytes::BytesMut;

/// Appends bytes as they are.
#[inline]
pub fn raw(out: &mut BytesMut, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Appends a quoted string. Like Go's encoder it escapes `<`, `>`, `&`, U+2028 and U+2029 too.
pub fn string(out: &mut BytesMut, text: &str) {
    out.extend_from_slice(b"\"");
    let mut rest = text;
    // Names, which long lists are made of, are plain ASCII: look at all bytes, many at once, before looking at characters.
    if text.bytes().fold(0, |special, byte| special | is_special(byte)) == 0 {
        rest = "";
        out.extend_from_slice(text.as_bytes());
    }
    while let Some((plain, found, tail)) = next_special(rest) {
        out.extend_from_slice(plain.as_bytes());
        escape(out, found);
        rest = tail;
    }
    out.extend_from_slice(rest.as_bytes());
    out.extend_from_slice(b"\"");
}

/// Not 0 for bytes that may have to be escaped. Without branches, so that it is computed for many bytes in one instruction.
const fn is_special(byte: u8) -> u8 {
    (byte < b' ') as u8
        | (byte > 0x7f) as u8
        | (byte == b'"') as u8
        | (byte == b'\\') as u8
        | (byte == b'<') as u8
        | (byte == b'>') as u8
        | (byte == b'&') as u8
}

fn next_special(text: &str) -> Option<(&str, char, &str)> {
    let at =
        text.find(|c: char| c < ' ' || matches!(c, '"' | '\\' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}'))?;
    let (plain, rest) = text.split_at_checked(at)?;
    let mut chars = rest.chars();
    let found = chars.next()?;
    Some((plain, found, chars.as_str()))
}

fn escape(out: &mut BytesMut, character: char) {
    let short = match character {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\u{8}' => "\\b",
        '\u{c}' => "\\f",
        _ => {
            let code = u32::from(character);
            raw(out, "\\u");
            for shift in [12, 8, 4, 0] {
                let digit = char::from_digit(code >> shift & 0xf, 16).unwrap_or('0');
                out.extend_from_slice(digit.encode_utf8(&mut [0; 4]).as_bytes());
            }
            return;
        }
    };
    raw(out, short);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quoted(text: &str) -> String {
        let mut out = BytesMut::new();
        string(&mut out, text);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn escapes_are_those_of_go() {
        assert_eq!(quoted("web"), "\"web\"");
        assert_eq!(
            quoted("a\"b\\c\n\u{1}<&>\u{2028}µ\u{7f}"),
            "\"a\\\"b\\\\c\\n\\u0001\\u003c\\u0026\\u003e\\u2028µ\u{7f}\""
        );
    }

    proptest! {
        #[test]
        fn a_parser_reads_the_same_text(text in any::<String>()) {
            prop_assert_eq!(serde_json::from_str::<String>(&quoted(&text)).unwrap(), text);
        }
    }
}
