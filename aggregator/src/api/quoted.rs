//! Text in quotes as Go's `%q` writes it: in the messages of Kubernetes names and values stand so, and what a request
//! brought may hold anything.

use std::fmt;

/// A text that is shown in quotes, all that cannot be printed escaped.
#[derive(Debug, Clone, Copy)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("\"")?;
        for character in self.0.chars() {
            let code = u32::from(character);
            match character {
                '"' => out.write_str("\\\"")?,
                '\\' => out.write_str("\\\\")?,
                '\u{7}' => out.write_str("\\a")?,
                '\u{8}' => out.write_str("\\b")?,
                '\u{c}' => out.write_str("\\f")?,
                '\n' => out.write_str("\\n")?,
                '\r' => out.write_str("\\r")?,
                '\t' => out.write_str("\\t")?,
                '\u{b}' => out.write_str("\\v")?,
                ' '..='~' => write!(out, "{character}")?,
                _ if code < 0x80 => write!(out, "\\x{code:02x}")?,
                // Rust's own rule for what can be printed: it escapes the rest.
                _ if character.escape_debug().len() == 1 => write!(out, "{character}")?,
                _ if code < 0x1_0000 => write!(out, "\\u{code:04x}")?,
                _ => write!(out, "\\U{code:08x}")?,
            }
        }
        out.write_str("\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_those_of_go() {
        for (text, quoted) in [
            ("node-a", r#""node-a""#),
            ("it's \"so\" \\ <&>", r#""it's \"so\" \\ <&>""#),
            ("\u{7}\u{8}\u{c}\n\r\t\u{b}\0\u{1b}\u{7f}", r#""\a\b\f\n\r\t\v\x00\x1b\x7f""#),
            ("müller 世界 🐝", r#""müller 世界 🐝""#),
            ("\u{85}\u{a0}\u{200b}\u{feff}\u{10ffff}", r#""\u0085\u00a0\u200b\ufeff\U0010ffff""#),
        ] {
            assert_eq!(Quoted(text).to_string(), quoted);
        }
    }
}
