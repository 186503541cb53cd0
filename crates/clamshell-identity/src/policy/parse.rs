//! From text to [`Document`]. Strict: what is not understood is an error, never ignored.

use std::fmt;

use thiserror::Error;

use super::{
    condition::{Condition, Operator},
    document::{Document, DocumentKind, Effect, Element, ResourcePattern, Statement},
    json::Json,
    principal::Named,
    value::Template,
};

/// More than a document of 20480 characters can usefully hold; bounds the work per evaluation.
const STATEMENTS_MAX: usize = 256;
/// Entries of one list; a list of the shortest entries could otherwise hold thousands.
const ENTRIES_MAX: usize = 1024;
/// Operators times keys of one statement.
const CONDITIONS_MAX: usize = 128;
/// As IAM bounds names of statements generously; they come back in audit records.
const SID_CHARS_MAX: usize = 128;

/// Why a text is not a policy document.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{place}: {problem}")]
pub struct ParseError {
    /// Where, for instance `Statement[0].Condition.StringLike`.
    pub place: String,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong at a place of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Problem {
    /// Empty, or more than 20480 characters.
    #[error("must have 1 to 20480 characters")]
    Size,
    /// Not JSON, too deep, or a member twice.
    #[error("is not JSON without duplicate members")]
    Json,
    /// Not the type that belongs there.
    #[error("has the wrong type")]
    Type,
    /// A member that belongs there is absent.
    #[error("is missing")]
    Missing,
    /// A member that does not belong there.
    #[error("is not allowed here")]
    Unexpected,
    /// A member and its negation together.
    #[error("cannot stand beside its negation")]
    Both,
    /// A list without entries.
    #[error("must not be empty")]
    Empty,
    /// Too many entries.
    #[error("has too many entries")]
    TooMany,
    /// Neither `2012-10-17` nor `2008-10-17`.
    #[error("must be 2012-10-17 or 2008-10-17")]
    Version,
    /// Neither `Allow` nor `Deny`.
    #[error("must be Allow or Deny")]
    Effect,
    /// Not `*` and not `service:Action`.
    #[error("is not an action")]
    Action,
    /// Not `*` and not an ARN of six parts.
    #[error("is not an ARN or *")]
    Resource,
    /// None of the known forms of a principal.
    #[error("is not a principal")]
    Principal,
    /// `NotPrincipal` with `Allow` gives to everyone else in the world.
    #[error("is allowed with Deny only")]
    NotPrincipalAllow,
    /// An operator that is not known.
    #[error("is not a known condition operator")]
    Operator,
    /// A key that no context can have.
    #[error("is not a condition key")]
    Key,
    /// A value that the operator cannot compare with.
    #[error("is not a value for this operator")]
    Value,
    /// A `${...}` of unknown form.
    #[error("holds a malformed policy variable")]
    Variable,
    /// A statement's name twice.
    #[error("must be unique within the document")]
    DuplicateSid,
    /// A name with other characters than letters and digits.
    #[error("must have 1 to 128 letters, digits, hyphens, underscores or spaces")]
    Sid,
}

/// A place in the document, cheap to extend.
#[derive(Clone, Copy)]
struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Member(&'a str),
    Index(usize),
}

impl<'a> Place<'a> {
    const ROOT: Place<'static> = Place { parent: None, step: Step::Member("document") };

    fn member(&'a self, name: &'a str) -> Place<'a> {
        Place { parent: Some(self), step: Step::Member(name) }
    }

    fn index(&'a self, index: usize) -> Place<'a> {
        Place { parent: Some(self), step: Step::Index(index) }
    }

    fn error(&self, problem: Problem) -> ParseError {
        ParseError { place: self.to_string(), problem }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let top = self.parent.is_none_or(|parent| parent.parent.is_none());
        if let Some(parent) = self.parent.filter(|_| !top) {
            parent.fmt(f)?;
        }
        match self.step {
            // Names can be anything a client sends: the place says enough with 64 of their characters.
            Step::Member(name) => {
                if !top {
                    f.write_str(".")?;
                }
                name.chars()
                    .take(64)
                    .try_for_each(|char| write!(f, "{}", if char.is_control() { '?' } else { char }))
            }
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

pub(super) fn document(kind: DocumentKind, text: &str) -> Result<Document, ParseError> {
    let root = Place::ROOT;
    // Characters are at most as many as bytes: the cheap test goes first.
    if text.is_empty() || (text.len() > Document::CHARS_MAX && text.chars().count() > Document::CHARS_MAX) {
        return Err(root.error(Problem::Size));
    }
    let json: Json = serde_json::from_str(text).map_err(|_| root.error(Problem::Json))?;
    let mut variables = false;
    let mut list = None;
    for (name, value) in object(&json, &root)? {
        let place = root.member(name);
        match name.as_str() {
            "Version" => match value {
                Json::Text(version) if version == "2012-10-17" => variables = true,
                Json::Text(version) if version == "2008-10-17" => {}
                _ => return Err(place.error(Problem::Version)),
            },
            "Id" => {
                string(value, &place)?;
            }
            "Statement" => list = Some(one_or_list(value)),
            _ => return Err(place.error(Problem::Unexpected)),
        }
    }
    let place = root.member("Statement");
    let list = list.ok_or_else(|| place.error(Problem::Missing))?;
    count(list.len(), STATEMENTS_MAX, &place)?;
    let mut statements: Vec<Statement> = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        let place = place.index(index);
        let parsed = statement(kind, variables, value, &place)?;
        if parsed.sid.is_some() && statements.iter().any(|other| other.sid == parsed.sid) {
            return Err(place.member("Sid").error(Problem::DuplicateSid));
        }
        statements.push(parsed);
    }
    Ok(Document { kind, statements })
}

fn statement(
    kind: DocumentKind,
    variables: bool,
    value: &Json,
    place: &Place<'_>,
) -> Result<Statement, ParseError> {
    let (mut sid, mut effect, mut conditions) = (None, None, Vec::new());
    let (mut actions, mut resources, mut principals) = (None, None, None);
    for (name, value) in object(value, place)? {
        let at = place.member(name);
        match name.as_str() {
            "Sid" => sid = statement_name(value, &at)?,
            "Effect" => {
                effect = Some(match value {
                    Json::Text(text) if text == "Allow" => Effect::Allow,
                    Json::Text(text) if text == "Deny" => Effect::Deny,
                    _ => return Err(at.error(Problem::Effect)),
                });
            }
            "Action" | "NotAction" => {
                set(&mut actions, name == "NotAction", texts(value, &at, &action)?, &at)?;
            }
            "Resource" | "NotResource" if kind != DocumentKind::Trust => {
                let parse = |text: &str, at: &Place<'_>| resource(variables, text, at);
                set(&mut resources, name == "NotResource", texts(value, &at, &parse)?, &at)?;
            }
            "Principal" | "NotPrincipal" if kind != DocumentKind::Identity => {
                set(&mut principals, name == "NotPrincipal", principal(value, &at)?, &at)?;
            }
            "Condition" => conditions = condition(variables, value, &at)?,
            _ => return Err(at.error(Problem::Unexpected)),
        }
    }
    let missing = |name| place.member(name).error(Problem::Missing);
    let effect = effect.ok_or_else(|| missing("Effect"))?;
    if kind != DocumentKind::Trust && resources.is_none() {
        return Err(missing("Resource"));
    }
    if kind != DocumentKind::Identity && principals.is_none() {
        return Err(missing("Principal"));
    }
    if effect == Effect::Allow && principals.as_ref().is_some_and(|element| element.negated) {
        return Err(place.member("NotPrincipal").error(Problem::NotPrincipalAllow));
    }
    let actions = actions.ok_or_else(|| missing("Action"))?;
    Ok(Statement { sid, effect, actions, resources, principals, conditions })
}

fn set<T>(
    slot: &mut Option<Element<T>>,
    negated: bool,
    entries: Vec<T>,
    place: &Place<'_>,
) -> Result<(), ParseError> {
    if slot.is_some() {
        return Err(place.error(Problem::Both));
    }
    *slot = Some(Element { negated, entries });
    Ok(())
}

fn statement_name(value: &Json, place: &Place<'_>) -> Result<Option<String>, ParseError> {
    let text = string(value, place)?;
    // An empty name is what several generators write for "no name".
    if text.is_empty() {
        return Ok(None);
    }
    let ok = text.chars().count() <= SID_CHARS_MAX
        && text.chars().all(|char| char.is_ascii_alphanumeric() || "-_ ".contains(char));
    if ok { Ok(Some(text.to_owned())) } else { Err(place.error(Problem::Sid)) }
}

fn action(text: &str, place: &Place<'_>) -> Result<String, ParseError> {
    let word = |part: &str| {
        !part.is_empty()
            && part.len() <= 128
            && part.chars().all(|char| char.is_ascii_alphanumeric() || "-*?".contains(char))
    };
    let ok = text == "*" || text.split_once(':').is_some_and(|(service, name)| word(service) && word(name));
    if ok { Ok(text.to_ascii_lowercase()) } else { Err(place.error(Problem::Action)) }
}

fn resource(variables: bool, text: &str, place: &Place<'_>) -> Result<ResourcePattern, ParseError> {
    let ok = text == "*"
        || (text.starts_with("arn:")
            && text.len() <= 2048
            && text.splitn(6, ':').count() == 6
            && !text.chars().any(|char| char.is_control() || char.is_whitespace() && char != ' '));
    if !ok {
        return Err(place.error(Problem::Resource));
    }
    Ok(ResourcePattern { text: text.to_owned(), template: template(variables, text, place)? })
}

fn template(variables: bool, text: &str, place: &Place<'_>) -> Result<Template, ParseError> {
    if variables {
        Template::parse(text).map_err(|_| place.error(Problem::Variable))
    } else {
        Ok(Template::plain(text))
    }
}

fn principal(value: &Json, place: &Place<'_>) -> Result<Vec<Named>, ParseError> {
    let members = match value {
        Json::Text(text) if text == "*" => return Ok(vec![Named::Anyone]),
        Json::Object(members) if !members.is_empty() => members,
        _ => return Err(place.error(Problem::Principal)),
    };
    let mut named = Vec::new();
    for (name, value) in members {
        let at = place.member(name);
        let parse: fn(&str) -> Option<Named> = match name.as_str() {
            "AWS" => Named::parse_aws,
            "Service" => Named::parse_service,
            _ => return Err(at.error(Problem::Unexpected)),
        };
        let one = |text: &str, at: &Place<'_>| parse(text).ok_or_else(|| at.error(Problem::Principal));
        named.extend(texts(value, &at, &one)?);
    }
    Ok(named)
}

fn condition(variables: bool, value: &Json, place: &Place<'_>) -> Result<Vec<Condition>, ParseError> {
    let mut conditions = Vec::new();
    for (name, keys) in object(value, place)? {
        let at = place.member(name);
        let operator = Operator::parse(name).ok_or_else(|| at.error(Problem::Operator))?;
        for (key, values) in object(keys, &at)? {
            let at = at.member(key);
            let ok = key.contains(':')
                && key.len() <= 512
                && key.chars().all(|char| !char.is_control() && !"*?${}".contains(char));
            if !ok {
                return Err(at.error(Problem::Key));
            }
            let list = one_or_list(values);
            count(list.len(), ENTRIES_MAX, &at)?;
            let mut texts = Vec::with_capacity(list.len());
            for value in list {
                texts.push(match value {
                    Json::Text(text) | Json::Number(text) => text.clone(),
                    Json::Bool(value) => value.to_string(),
                    Json::Null | Json::List(_) | Json::Object(_) => return Err(at.error(Problem::Type)),
                });
            }
            let make = |text: &str| template(variables, text, &at);
            let operand = operator.operand(&texts, &make)?.ok_or_else(|| at.error(Problem::Value))?;
            conditions.push(Condition { operator, key: key.to_ascii_lowercase(), operand });
            if conditions.len() > CONDITIONS_MAX {
                return Err(place.error(Problem::TooMany));
            }
        }
    }
    Ok(conditions)
}

fn object<'j>(value: &'j Json, place: &Place<'_>) -> Result<&'j [(String, Json)], ParseError> {
    match value {
        Json::Object(members) => Ok(members),
        _ => Err(place.error(Problem::Type)),
    }
}

fn string<'j>(value: &'j Json, place: &Place<'_>) -> Result<&'j str, ParseError> {
    match value {
        Json::Text(text) => Ok(text),
        _ => Err(place.error(Problem::Type)),
    }
}

fn one_or_list(value: &Json) -> &[Json] {
    match value {
        Json::List(items) => items,
        other => std::slice::from_ref(other),
    }
}

fn count(len: usize, max: usize, place: &Place<'_>) -> Result<(), ParseError> {
    match len {
        0 => Err(place.error(Problem::Empty)),
        len if len > max => Err(place.error(Problem::TooMany)),
        _ => Ok(()),
    }
}

fn texts<T>(
    value: &Json,
    place: &Place<'_>,
    parse: &dyn Fn(&str, &Place<'_>) -> Result<T, ParseError>,
) -> Result<Vec<T>, ParseError> {
    let list = one_or_list(value);
    count(list.len(), ENTRIES_MAX, place)?;
    let single = !matches!(value, Json::List(_));
    list.iter()
        .enumerate()
        .map(|(index, item)| {
            let indexed = place.index(index);
            let at = if single { place } else { &indexed };
            parse(string(item, at)?, at)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(kind: DocumentKind, text: &str, expect: Result<usize, (&str, Problem)>) {
        let found = Document::parse(kind, text).map(|document| document.statements.len());
        let expect = expect.map_err(|(place, problem)| ParseError { place: place.to_owned(), problem });
        assert_eq!(found, expect, "{}", &text[..text.len().min(300)]);
    }

    fn identity(statement: &str, expect: Result<usize, (&str, Problem)>) {
        let text = format!(r#"{{"Version":"2012-10-17","Statement":{statement}}}"#);
        check(DocumentKind::Identity, &text, expect);
    }

    #[test]
    fn well_formed_documents() {
        identity(r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#, Ok(1));
        identity(
            r#"[{"Sid":"A 1","Effect":"Allow","Action":["s3:Get*","*:*"],"NotResource":"arn:aws:s3:::b/${aws:username}/*"},
               {"Sid":"","Effect":"Deny","NotAction":"iam:*","Resource":["*"],
                "Condition":{"BoolIfExists":{"aws:SecureTransport":false},
                             "ForAllValues:StringLike":{"aws:TagKeys":["a*","b"]},
                             "NumericLessThan":{"bedrock-agentcore:X":5},
                             "Null":{"aws:TokenIssueTime":"true"}}}]"#,
            Ok(2),
        );
        check(
            DocumentKind::Resource,
            r#"{"Id":"x","Statement":{"Effect":"Allow","Principal":{"AWS":["111122223333","*"],"Service":"a.amazonaws.com"},"Action":"a:b","Resource":"*"}}"#,
            Ok(1),
        );
        check(
            DocumentKind::Trust,
            r#"{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}]}"#,
            Ok(1),
        );
        // Documents of 2008 know no variables: the text is itself.
        check(
            DocumentKind::Identity,
            r#"{"Version":"2008-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::${x"}}"#,
            Ok(1),
        );
    }

    #[test]
    fn errors_name_the_place() {
        use Problem as P;
        check(DocumentKind::Identity, "", Err(("document", P::Size)));
        check(DocumentKind::Identity, &" ".repeat(20_481), Err(("document", P::Size)));
        check(DocumentKind::Identity, "{", Err(("document", P::Json)));
        check(DocumentKind::Identity, "[]", Err(("document", P::Type)));
        check(DocumentKind::Identity, "{}", Err(("Statement", P::Missing)));
        check(DocumentKind::Identity, r#"{"Version":"2013-10-17"}"#, Err(("Version", P::Version)));
        check(DocumentKind::Identity, r#"{"version":"2012-10-17"}"#, Err(("version", P::Unexpected)));
        identity("[]", Err(("Statement", P::Empty)));
        identity(r#"["x"]"#, Err(("Statement[0]", P::Type)));
        let one = |members: &str, place: &str, problem| {
            identity(&format!("[{{{members}}}]"), Err((&format!("Statement[0].{place}"), problem)));
        };
        one(r#""Action":"*","Resource":"*""#, "Effect", P::Missing);
        one(r#""Effect":"allow""#, "Effect", P::Effect);
        one(r#""Effect":"Allow","Resource":"*""#, "Action", P::Missing);
        one(r#""Effect":"Allow","Action":"*""#, "Resource", P::Missing);
        one(r#""Effect":"Allow","Action":["a:b","Get"]"#, "Action[1]", P::Action);
        one(r#""Effect":"Allow","Action":[]"#, "Action", P::Empty);
        one(r#""Effect":"Allow","Action":1"#, "Action", P::Type);
        one(r#""Action":"*","NotAction":"*""#, "NotAction", P::Both);
        one(r#""Resource":"arn:aws:s3""#, "Resource", P::Resource);
        one(r#""Resource":"*x""#, "Resource", P::Resource);
        one(r#""Resource":["arn:aws:s3:::${aws"]"#, "Resource[0]", P::Variable);
        one(r#""Principal":"*""#, "Principal", P::Unexpected);
        one(r#""Sid":"a/b""#, "Sid", P::Sid);
        one(r#""Condition":{"StringSounds":{}}"#, "Condition.StringSounds", P::Operator);
        one(r#""Condition":{"Bool":{"x":"true"}}"#, "Condition.Bool.x", P::Key);
        one(r#""Condition":{"Bool":{"aws:x":"yes"}}"#, "Condition.Bool.aws:x", P::Value);
        one(r#""Condition":{"Bool":{"aws:x":[]}}"#, "Condition.Bool.aws:x", P::Empty);
        one(
            r#""Condition":{"IpAddress":{"aws:SourceIp":"1.2.3.4/33"}}"#,
            "Condition.IpAddress.aws:SourceIp",
            P::Value,
        );
        one(r#""Condition":{"StringLike":{"aws:x":"${y"}}"#, "Condition.StringLike.aws:x", P::Variable);
        one(r#""Condition":{"NullIfExists":{"aws:x":"true"}}"#, "Condition.NullIfExists", P::Operator);
        let twice = r#"{"Sid":"a","Effect":"Allow","Action":"*","Resource":"*"}"#;
        identity(&format!("[{twice},{twice}]"), Err(("Statement[1].Sid", P::DuplicateSid)));
        check(
            DocumentKind::Resource,
            r#"{"Statement":{"Effect":"Allow","NotPrincipal":"*","Action":"*","Resource":"*"}}"#,
            Err(("Statement[0].NotPrincipal", P::NotPrincipalAllow)),
        );
        check(
            DocumentKind::Resource,
            r#"{"Statement":{"Effect":"Allow","Principal":{"AWS":["*","bob"]},"Action":"*","Resource":"*"}}"#,
            Err(("Statement[0].Principal.AWS[1]", P::Principal)),
        );
        check(
            DocumentKind::Resource,
            r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#,
            Err(("Statement[0].Principal", P::Missing)),
        );
        check(
            DocumentKind::Trust,
            r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}"#,
            Err(("Statement[0].Resource", P::Unexpected)),
        );
    }

    #[test]
    fn duplicate_members_are_refused() {
        identity(
            r#"{"Effect":"Deny","Effect":"Allow","Action":"*","Resource":"*"}"#,
            Err(("document", Problem::Json)),
        );
    }

    proptest! {
        #[test]
        fn hostile_texts_never_panic(text in r#"[\{\}\[\]":,a-zA-Z$\*\\ 0-9]{0,200}"#) {
            for kind in [DocumentKind::Identity, DocumentKind::Resource, DocumentKind::Trust] {
                let _ = Document::parse(kind, &text);
                let _ = Document::parse(kind, &format!(r#"{{"Statement":[{{"Condition":{text}}}]}}"#));
            }
        }
    }
}
