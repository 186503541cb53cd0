//! Texts of a policy that may hold wildcards and variables: `${aws:username}`, `${*}`.

use std::collections::BTreeMap;

use super::pattern::Token;

/// Context of a request: lower-case key to its values.
pub(super) type Context = BTreeMap<String, Vec<String>>;

/// A text with its variables found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// As written: `*` and `?` are wildcards where the operator knows them.
    Text(String),
    /// Never a wildcard: `${*}`, `${?}`, `${$}`.
    Literal(char),
    /// A value of the request, or the default behind the comma.
    Variable { key: String, default: Option<String> },
}

/// A `${...}` that is none of the known forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadVariable;

impl Template {
    /// A text without variables, as documents of 2008 are read.
    pub(super) fn plain(text: &str) -> Self {
        Self(vec![Part::Text(text.to_owned())])
    }

    /// Finds the variables of `text`.
    pub(super) fn parse(text: &str) -> Result<Self, BadVariable> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            if start > 0 {
                parts.push(Part::Text(rest[..start].to_owned()));
            }
            let body = &rest[start + 2..];
            let end = body.find('}').ok_or(BadVariable)?;
            parts.push(variable(&body[..end])?);
            rest = &body[end + 1..];
        }
        if !rest.is_empty() || parts.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// The text with variables filled in and wildcards live; values of variables never act as
    /// wildcards. `None` when the request lacks a variable.
    pub(super) fn tokens(&self, context: &Context) -> Option<Vec<Token>> {
        let mut tokens = Vec::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => tokens.extend(super::pattern::tokens(text)),
                Part::Literal(char) => tokens.push(Token::Char(*char)),
                Part::Variable { key, default } => {
                    tokens.extend(resolve(context, key, default.as_deref())?.chars().map(Token::Char));
                }
            }
        }
        Some(tokens)
    }

    /// The text with variables filled in, without wildcards. `None` when the request lacks a variable.
    pub(super) fn text(&self, context: &Context) -> Option<String> {
        let mut filled = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Literal(char) => filled.push(*char),
                Part::Variable { key, default } => {
                    filled.push_str(resolve(context, key, default.as_deref())?);
                }
            }
        }
        Some(filled)
    }
}

fn variable(body: &str) -> Result<Part, BadVariable> {
    if let "*" | "?" | "$" = body {
        return Ok(Part::Literal(body.chars().next().unwrap_or('$')));
    }
    let (key, default) = match body.split_once(',') {
        None => (body.trim(), None),
        Some((key, default)) => {
            let default = default.trim();
            let inner = default.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
            (key.trim(), Some(inner.ok_or(BadVariable)?.to_owned()))
        }
    };
    let known = key.contains(':')
        && key.chars().all(|char| char.is_ascii_alphanumeric() || ":/-_.=+@".contains(char));
    if !known {
        return Err(BadVariable);
    }
    Ok(Part::Variable { key: key.to_ascii_lowercase(), default })
}

/// One value stands for itself; several are no text, so they count as absent.
fn resolve<'a>(context: &'a Context, key: &str, default: Option<&'a str>) -> Option<&'a str> {
    match context.get(key).map(Vec::as_slice) {
        Some([value]) => Some(value),
        Some(_) => None,
        None => default,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_fill_in_and_never_become_wildcards() {
        let context: Context = [
            ("aws:username".to_owned(), vec!["a*b".to_owned()]),
            ("aws:tagkeys".to_owned(), vec!["x".to_owned(), "y".to_owned()]),
        ]
        .into();
        let check = |text: &str, expect: Option<&str>| {
            let filled = Template::parse(text).unwrap().text(&context);
            assert_eq!(filled.as_deref(), expect, "{text}");
        };
        check("home/${aws:username}/", Some("home/a*b/"));
        check("${AWS:UserName}", Some("a*b"));
        check("${aws:PrincipalTag/team, 'none'}-x", Some("none-x"));
        check("${aws:PrincipalTag/team}", None);
        check("${aws:TagKeys, 'z'}", None);
        check("a${*}b${?}${$}", Some("a*b?$"));
        check("", Some(""));
        let tokens = Template::parse("${aws:username}*${*}").unwrap().tokens(&context).unwrap();
        assert_eq!(
            tokens,
            [Token::Char('a'), Token::Char('*'), Token::Char('b'), Token::Many, Token::Char('*')]
        );
    }

    #[test]
    fn malformed_variables_are_refused() {
        for text in ["${", "${}", "${x}", "${aws:x, y}", "${aws:x y}", "a ${aws:username"] {
            assert_eq!(Template::parse(text), Err(BadVariable), "{text}");
        }
    }
}
