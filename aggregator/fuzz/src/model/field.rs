//! Field selectors, character by character (kubernetes/apimachinery, `pkg/fields/selector.go`).

/// One comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// `metadata.name` or `metadata.namespace`.
    pub field: String,
    /// `=` or `==`; otherwise `!=`.
    pub equal: bool,
    /// Without escapes.
    pub value: String,
}

/// The comparisons; `None` where the text is malformed or names another field.
pub fn parse(text: &str) -> Option<Vec<Term>> {
    let mut terms = Vec::new();
    let mut chars = text.chars().peekable();
    while chars.peek().is_some() {
        if chars.next_if_eq(&',').is_some() {
            continue;
        }
        let mut field = String::new();
        let equal = loop {
            match chars.next()? {
                '=' => {
                    chars.next_if_eq(&'=');
                    break true;
                }
                '!' if chars.next_if_eq(&'=').is_some() => break false,
                ',' => return None,
                c => field.push(c),
            }
        };
        let mut value = String::new();
        loop {
            match chars.next() {
                None | Some(',') => break,
                Some('=') => return None,
                Some('\\') => value.push(chars.next().filter(|c| ['\\', ',', '='].contains(c))?),
                Some(c) => value.push(c),
            }
        }
        terms.push(Term { field, equal, value });
    }
    let known = |term: &Term| ["metadata.name", "metadata.namespace"].contains(&&*term.field);
    terms.iter().all(known).then_some(terms)
}

/// Whether an object of that name is selected.
pub fn selects(terms: &[Term], namespace: &str, name: &str) -> bool {
    terms.iter().all(|term| {
        let actual = if term.field == "metadata.name" { name } else { namespace };
        if term.equal { actual == term.value } else { actual != term.value }
    })
}
