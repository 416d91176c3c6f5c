//! The tokens of a label selector.

/// A token and, in [`Item::text`], what stood there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Identifier,
    In,
    NotIn,
    Not,
    Equals,
    DoubleEquals,
    NotEquals,
    Greater,
    Less,
    Comma,
    Open,
    Close,
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Item<'a> {
    pub token: Token,
    pub text: &'a str,
}

/// Splits a selector; after its end there are [`Token::End`]s forever.
#[derive(Debug, Clone)]
pub(super) struct Lexer<'a> {
    rest: &'a str,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        // A NUL ends the text for Kubernetes' lexer.
        Self { rest: text.split('\0').next().unwrap_or_default() }
    }

    /// The next item, without taking it.
    pub(super) fn peek(&self) -> Item<'a> {
        self.clone().next()
    }

    /// Takes the next item.
    pub(super) fn next(&mut self) -> Item<'a> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let (token, length) = match self.rest.as_bytes() {
            [] => (Token::End, 0),
            [b'=', b'=', ..] => (Token::DoubleEquals, 2),
            [b'=', ..] => (Token::Equals, 1),
            [b'!', b'=', ..] => (Token::NotEquals, 2),
            [b'!', ..] => (Token::Not, 1),
            [b'>', ..] => (Token::Greater, 1),
            [b'<', ..] => (Token::Less, 1),
            [b',', ..] => (Token::Comma, 1),
            [b'(', ..] => (Token::Open, 1),
            [b')', ..] => (Token::Close, 1),
            _ => {
                let ends =
                    |c| matches!(c, ' ' | '\t' | '\r' | '\n' | '=' | '!' | '(' | ')' | ',' | '>' | '<');
                let length = self.rest.find(ends).unwrap_or(self.rest.len());
                match self.rest.split_at_checked(length) {
                    Some(("in", _)) => (Token::In, length),
                    Some(("notin", _)) => (Token::NotIn, length),
                    _ => (Token::Identifier, length),
                }
            }
        };
        let (text, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.rest = rest;
        Item { token, text }
    }
}

impl Token {
    /// `in` and `notin` are operators only where an operator is looked for.
    pub(super) fn as_value(self) -> Self {
        match self {
            Self::In | Self::NotIn => Self::Identifier,
            other => other,
        }
    }
}
