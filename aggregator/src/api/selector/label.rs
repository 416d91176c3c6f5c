//! Label selectors: the grammar of kubernetes/apimachinery, `pkg/labels/selector.go`.

use std::collections::BTreeSet;

use super::{
    SelectorError,
    lex::{Lexer, Token},
    validate,
};
use crate::{auth, inventory::Labels};

/// A conjunction of requirements on labels; the empty one selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: Box<str>,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Exists,
    Absent,
    In(BTreeSet<Box<str>>),
    /// Also true of objects without the label.
    NotIn(BTreeSet<Box<str>>),
    Greater(i64),
    Less(i64),
}

impl LabelSelector {
    /// Parses `a=b,c!=d,e in (f,g),h notin (i),j,!k` (and `>`, `<` on integers).
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut lexer = Lexer::new(text);
        let mut requirements = Vec::new();
        loop {
            let item = lexer.peek();
            match item.token.as_value() {
                Token::Identifier | Token::Not => {
                    let requirement = requirement(&mut lexer)
                        .map_err(|error| SelectorError(format!("unable to parse requirement: {error}")))?;
                    requirements.push(requirement);
                }
                Token::End => return Ok(Self { requirements }),
                _ => return Err(found(item.text, "!, identifier, or 'end of string'")),
            }
            let item = lexer.next();
            match item.token {
                Token::End => return Ok(Self { requirements }),
                Token::Comma => {}
                _ => return Err(found(item.text, "',' or 'end of string'")),
            }
            let item = lexer.peek();
            if !matches!(item.token.as_value(), Token::Identifier | Token::Not) {
                return Err(found(item.text, "identifier after ','"));
            }
        }
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(labels.get(&requirement.key)))
    }

    /// The requirements as a SubjectAccessReview states them. It has no word for `>` and `<`; those are left out, which asks for
    /// more than is needed and never for less.
    pub fn reviewed(&self) -> Vec<auth::Requirement> {
        self.requirements.iter().filter_map(Requirement::reviewed).collect()
    }

    /// Whether everything is selected.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }
}

impl Requirement {
    fn reviewed(&self) -> Option<auth::Requirement> {
        let owned = |values: &BTreeSet<Box<str>>| values.iter().map(ToString::to_string).collect();
        let (operator, values) = match &self.test {
            Test::Exists => (auth::Operator::Exists, Vec::new()),
            Test::Absent => (auth::Operator::DoesNotExist, Vec::new()),
            Test::In(values) => (auth::Operator::In, owned(values)),
            Test::NotIn(values) => (auth::Operator::NotIn, owned(values)),
            Test::Greater(_) | Test::Less(_) => return None,
        };
        Some(auth::Requirement { key: self.key.to_string(), operator, values })
    }

    fn matches(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::In(values) => value.is_some_and(|value| values.contains(value)),
            Test::NotIn(values) => !value.is_some_and(|value| values.contains(value)),
            Test::Greater(than) => number().is_some_and(|number| number > *than),
            Test::Less(than) => number().is_some_and(|number| number < *than),
        }
    }
}

fn found(text: &str, expected: &str) -> SelectorError {
    SelectorError(format!("found '{text}', expected: {expected}"))
}

fn requirement(lexer: &mut Lexer<'_>) -> Result<Requirement, SelectorError> {
    let mut item = lexer.next();
    let absent = item.token == Token::Not;
    if absent {
        item = lexer.next();
    }
    if item.token.as_value() != Token::Identifier {
        return Err(found(item.text, "identifier"));
    }
    let key = item.text;
    validate::key(key, "<nil>")?;
    if absent {
        return Ok(Requirement { key: key.into(), test: Test::Absent });
    }
    if matches!(lexer.peek().token, Token::End | Token::Comma) {
        return Ok(Requirement { key: key.into(), test: Test::Exists });
    }
    let operator = lexer.next();
    let values = match operator.token {
        Token::In | Token::NotIn => set(lexer)?,
        Token::Equals | Token::DoubleEquals | Token::NotEquals | Token::Greater | Token::Less => {
            BTreeSet::from([exact(lexer)?])
        }
        _ => return Err(found(operator.text, "in, notin, =, ==, !=, gt, lt")),
    };
    if values.is_empty() {
        let text = "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty";
        return Err(SelectorError(text.to_owned()));
    }
    let mut errors = Vec::new();
    let mut number = 0;
    if matches!(operator.token, Token::Greater | Token::Less) {
        let value = values.first().copied().unwrap_or_default();
        let error = "for 'Gt', 'Lt' operators, the value must be an integer".to_owned();
        match value.parse::<i64>() {
            Ok(parsed) => number = parsed,
            Err(_) => errors.push(validate::invalid("values[0]", value, &[error])),
        }
    }
    // An integer has to be a label's value too: a negative one is not.
    for (index, value) in values.iter().enumerate() {
        errors.extend(validate::value(value, &format!("values[{index}][{key}]")).err());
    }
    validate::all(errors)?;
    let values = values.into_iter().map(Box::from).collect();
    let test = match operator.token {
        Token::Greater => Test::Greater(number),
        Token::Less => Test::Less(number),
        Token::NotIn | Token::NotEquals => Test::NotIn(values),
        _ => Test::In(values),
    };
    Ok(Requirement { key: key.into(), test })
}

/// The one value after an equality operator; nothing there means the empty value.
fn exact<'a>(lexer: &mut Lexer<'a>) -> Result<&'a str, SelectorError> {
    if matches!(lexer.peek().token, Token::End | Token::Comma) {
        return Ok("");
    }
    let item = lexer.next();
    match item.token.as_value() {
        Token::Identifier => Ok(item.text),
        _ => Err(found(item.text, "identifier")),
    }
}

/// The values in parentheses; a gap between commas is the empty value.
fn set<'a>(lexer: &mut Lexer<'a>) -> Result<BTreeSet<&'a str>, SelectorError> {
    let item = lexer.next();
    if item.token != Token::Open {
        return Err(SelectorError(format!("found '{}' expected: '('", item.text)));
    }
    let mut values = BTreeSet::new();
    let first = lexer.peek();
    match first.token.as_value() {
        Token::Close => {
            lexer.next();
            return Ok(values);
        }
        Token::Identifier | Token::Comma => {}
        _ => return Err(found(first.text, "',', ')' or identifier")),
    }
    let mut after_comma = true;
    loop {
        let item = lexer.next();
        match item.token.as_value() {
            Token::Identifier if after_comma => {
                values.insert(item.text);
                after_comma = false;
                let next = lexer.peek();
                if !matches!(next.token, Token::Comma | Token::Close) {
                    return Err(found(next.text, "',' or ')'"));
                }
            }
            Token::Comma => {
                if after_comma {
                    values.insert("");
                }
                after_comma = true;
            }
            Token::Close => {
                if after_comma {
                    values.insert("");
                }
                return Ok(values);
            }
            _ => return Err(found(item.text, "',', or identifier")),
        }
    }
}
