//! Condition operators: how they parse, and whether a request meets them.

use std::net::IpAddr;

use super::{
    document::Effect,
    parse::ParseError,
    pattern,
    value::{Context, Template},
};

/// One operator applied to one key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Condition {
    pub(super) operator: Operator,
    /// Lower case.
    pub(super) key: String,
    pub(super) operand: Operand,
}

/// An operator with its prefix and suffix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operator {
    set: Set,
    compare: Compare,
    negated: bool,
    if_exists: bool,
}

/// How several values of the request count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    /// No prefix: as `ForAnyValue`, but a negated operator needs all of them to differ.
    Single,
    All,
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Equals,
    EqualsIgnoreCase,
    Like,
    Numeric(Order),
    Date(Order),
    Bool,
    Ip,
    Arn,
    Null,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The values of the policy, parsed for their operator.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Texts(Vec<Template>),
    Numbers(Vec<f64>),
    /// Nanoseconds since 1970.
    Dates(Vec<i128>),
    Bools(Vec<bool>),
    Networks(Vec<Network>),
}

/// A range of addresses: all whose leading `bits` are those of `address`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    bits: u8,
}

impl Operator {
    /// The operator of this name; names are exact, as IAM takes them.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (set, name) = if let Some(rest) = name.strip_prefix("ForAllValues:") {
            (Set::All, rest)
        } else if let Some(rest) = name.strip_prefix("ForAnyValue:") {
            (Set::Any, rest)
        } else {
            (Set::Single, name)
        };
        let (name, if_exists) = name.strip_suffix("IfExists").map_or((name, false), |name| (name, true));
        let (compare, negated) = match name {
            "StringEquals" => (Compare::Equals, false),
            "StringNotEquals" => (Compare::Equals, true),
            "StringEqualsIgnoreCase" => (Compare::EqualsIgnoreCase, false),
            "StringNotEqualsIgnoreCase" => (Compare::EqualsIgnoreCase, true),
            "StringLike" => (Compare::Like, false),
            "StringNotLike" => (Compare::Like, true),
            "Bool" => (Compare::Bool, false),
            "IpAddress" => (Compare::Ip, false),
            "NotIpAddress" => (Compare::Ip, true),
            "ArnEquals" | "ArnLike" => (Compare::Arn, false),
            "ArnNotEquals" | "ArnNotLike" => (Compare::Arn, true),
            // It asks whether the key is there: a set or `IfExists` would contradict it.
            "Null" if set == Set::Single && !if_exists => (Compare::Null, false),
            _ => {
                let (kind, rest): (fn(Order) -> Compare, &str) = match name.strip_prefix("Numeric") {
                    Some(rest) => (Compare::Numeric, rest),
                    None => (Compare::Date, name.strip_prefix("Date")?),
                };
                match rest {
                    "Equals" => (kind(Order::Equal), false),
                    "NotEquals" => (kind(Order::Equal), true),
                    "LessThan" => (kind(Order::Less), false),
                    "LessThanEquals" => (kind(Order::LessOrEqual), false),
                    "GreaterThan" => (kind(Order::Greater), false),
                    "GreaterThanEquals" => (kind(Order::GreaterOrEqual), false),
                    _ => return None,
                }
            }
        };
        Some(Self { set, compare, negated, if_exists })
    }

    /// Parses the values of the policy for this operator; `None` when one is not comparable.
    /// Variables live in texts alone.
    ///
    /// # Errors
    /// What `template` finds wrong.
    pub(super) fn operand(
        self,
        texts: &[String],
        template: &dyn Fn(&str) -> Result<Template, ParseError>,
    ) -> Result<Option<Operand>, ParseError> {
        Ok(match self.compare {
            Compare::Equals | Compare::EqualsIgnoreCase | Compare::Like => {
                let templates: Result<Vec<_>, _> = texts.iter().map(|text| template(text)).collect();
                Some(Operand::Texts(templates?))
            }
            Compare::Arn => {
                if !texts.iter().all(|text| text == "*" || text.splitn(6, ':').count() == 6) {
                    return Ok(None);
                }
                let templates: Result<Vec<_>, _> = texts.iter().map(|text| template(text)).collect();
                Some(Operand::Texts(templates?))
            }
            Compare::Numeric(_) => all(texts, number).map(Operand::Numbers),
            Compare::Date(_) => all(texts, date).map(Operand::Dates),
            Compare::Bool | Compare::Null => all(texts, boolean).map(Operand::Bools),
            Compare::Ip => all(texts, network).map(Operand::Networks),
        })
    }
}

impl Condition {
    /// Whether a request with this context meets the condition. `effect` decides the one case that
    /// has no answer: a negated comparison with a variable that the request lacks never widens an
    /// allow and never narrows a deny.
    pub(super) fn holds(&self, context: &Context, effect: Effect) -> bool {
        let values = context.get(&self.key).map(Vec::as_slice).filter(|values| !values.is_empty());
        if self.operator.compare == Compare::Null {
            let wanted = |absent: bool| matches!(&self.operand, Operand::Bools(all) if all.contains(&absent));
            return wanted(values.is_none());
        }
        let Some(values) = values else {
            return self.operator.if_exists
                || match self.operator.set {
                    Set::Single => self.operator.negated,
                    Set::All => true,
                    Set::Any => false,
                };
        };
        let mut each = values.iter().map(|value| match self.compare(value, context) {
            Some(matched) => matched != self.operator.negated,
            None if self.operator.negated => effect == Effect::Deny,
            None => false,
        });
        match self.operator.set {
            Set::All => each.all(|holds| holds),
            Set::Single if self.operator.negated => each.all(|holds| holds),
            Set::Single | Set::Any => each.any(|holds| holds),
        }
    }

    /// Whether `value` equals any value of the policy; `None` when that hangs on a missing variable.
    fn compare(&self, value: &str, context: &Context) -> Option<bool> {
        match (&self.operand, self.operator.compare) {
            (Operand::Texts(templates), compare) => {
                let mut unknown = false;
                for template in templates {
                    match compare_text(template, compare, value, context) {
                        Some(true) => return Some(true),
                        Some(false) => {}
                        None => unknown = true,
                    }
                }
                if unknown { None } else { Some(false) }
            }
            (Operand::Numbers(numbers), Compare::Numeric(order)) => Some(
                number(value).is_some_and(|value| numbers.iter().any(|other| order.holds(&value, other))),
            ),
            (Operand::Dates(dates), Compare::Date(order)) => {
                Some(date(value).is_some_and(|value| dates.iter().any(|other| order.holds(&value, other))))
            }
            (Operand::Bools(bools), _) => Some(boolean(value).is_some_and(|value| bools.contains(&value))),
            (Operand::Networks(networks), _) => Some(
                value
                    .parse::<IpAddr>()
                    .is_ok_and(|address| networks.iter().any(|network| network.contains(address))),
            ),
            (Operand::Numbers(_) | Operand::Dates(_), _) => Some(false),
        }
    }
}

fn compare_text(template: &Template, compare: Compare, value: &str, context: &Context) -> Option<bool> {
    Some(match compare {
        Compare::Equals => template.text(context)? == value,
        // Unicode's lower case, not only ASCII's: names of people are values too.
        Compare::EqualsIgnoreCase => template.text(context)?.to_lowercase() == value.to_lowercase(),
        Compare::Arn => pattern::matches_arn(&template.tokens(context)?, value),
        _ => pattern::matches(&template.tokens(context)?, &value.chars().collect::<Vec<_>>()),
    })
}

impl Order {
    fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}

fn all<T>(texts: &[String], parse: fn(&str) -> Option<T>) -> Option<Vec<T>> {
    texts.iter().map(|text| parse(text)).collect()
}

fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|number| number.is_finite())
}

fn boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// Seconds since 1970, a day (midnight UTC) or a time with its zone.
fn date(text: &str) -> Option<i128> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Some(i128::from(seconds) * 1_000_000_000);
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.as_nanosecond());
    }
    let day = jiff::civil::Date::strptime("%Y-%m-%d", text).ok()?;
    Some(day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_nanosecond())
}

fn network(text: &str) -> Option<Network> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => {
            let digits =
                !bits.is_empty() && bits.len() <= 3 && bits.bytes().all(|byte| byte.is_ascii_digit());
            (address, Some(bits.parse::<u8>().ok().filter(|_| digits)?))
        }
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let max = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(max);
    (bits <= max).then_some(Network { address, bits })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The condition `{operator: {"aws:K": values}}` against `context` as `K`'s values.
    fn check(operator: &str, values: &[&str], context: &[&str], expect: bool) {
        let operator_parsed = Operator::parse(operator).unwrap();
        let texts: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        let operand =
            operator_parsed.operand(&texts, &|text| Ok(Template::parse(text).unwrap())).unwrap().unwrap();
        let condition = Condition { operator: operator_parsed, key: "aws:k".to_owned(), operand };
        let mut map = Context::new();
        map.insert("aws:username".to_owned(), vec!["bob".to_owned()]);
        if !context.is_empty() {
            map.insert("aws:k".to_owned(), context.iter().map(|value| (*value).to_owned()).collect());
        }
        let found = condition.holds(&map, Effect::Allow);
        assert_eq!(found, expect, "{operator} {values:?} against {context:?}");
    }

    #[test]
    fn strings() {
        check("StringEquals", &["a", "b"], &["b"], true);
        check("StringEquals", &["a*"], &["ab"], false);
        check("StringEquals", &["${aws:username}"], &["bob"], true);
        check("StringNotEquals", &["a", "b"], &["b"], false);
        check("StringNotEquals", &["a", "b"], &["c"], true);
        check("StringNotEquals", &["a"], &["b", "a"], false);
        check("StringEqualsIgnoreCase", &["ÄB"], &["äb"], true);
        check("StringNotEqualsIgnoreCase", &["AB"], &["ab"], false);
        check("StringLike", &["a?c*"], &["abcdef"], true);
        check("StringLike", &["a${*}"], &["ab"], false);
        check("StringLike", &["a${*}"], &["a*"], true);
        check("StringLike", &["${aws:username}/*"], &["bob/x"], true);
        check("StringNotLike", &["a*"], &["b"], true);
    }

    #[test]
    fn numbers_dates_and_booleans() {
        check("NumericEquals", &["10"], &["10.0"], true);
        check("NumericNotEquals", &["10"], &["11"], true);
        check("NumericLessThan", &["10"], &["10"], false);
        check("NumericLessThanEquals", &["10"], &["10"], true);
        check("NumericGreaterThan", &["9.5"], &["10"], true);
        check("NumericGreaterThanEquals", &["10"], &["9"], false);
        check("NumericLessThan", &["10"], &["many"], false);
        check("DateLessThan", &["2026-01-01T00:00:00Z"], &["2025-12-31T23:59:59Z"], true);
        check("DateGreaterThan", &["2026-01-01T00:00:00+02:00"], &["2025-12-31T22:00:01Z"], true);
        check("DateGreaterThanEquals", &["2026-01-01"], &["1767225600"], true);
        check("DateEquals", &["1767225600"], &["2026-01-01T00:00:00Z"], true);
        check("DateNotEquals", &["1767225600"], &["2026-01-01T00:00:00Z"], false);
        check("DateLessThanEquals", &["2026-01-01"], &["not a date"], false);
        check("Bool", &["true"], &["TRUE"], true);
        check("Bool", &["false"], &["true"], false);
        check("Bool", &["true"], &["1"], false);
    }

    #[test]
    fn addresses_and_arns() {
        check("IpAddress", &["203.0.113.0/24", "2001:db8::/32"], &["203.0.113.77"], true);
        check("IpAddress", &["203.0.113.0/24"], &["::ffff:203.0.113.77"], true);
        check("IpAddress", &["2001:db8::/32"], &["2001:db8:1::1"], true);
        check("IpAddress", &["203.0.113.7"], &["203.0.113.8"], false);
        check("IpAddress", &["0.0.0.0/0"], &["9.9.9.9"], true);
        check("IpAddress", &["0.0.0.0/0"], &["::1"], false);
        check("IpAddress", &["::/0"], &["::1"], true);
        check("IpAddress", &["10.0.0.0/8"], &["not an address"], false);
        check("NotIpAddress", &["10.0.0.0/8"], &["11.0.0.1"], true);
        check("NotIpAddress", &["10.0.0.0/8"], &["10.1.1.1"], false);
        let arn = "arn:aws:iam::111122223333:role/a/b";
        check("ArnLike", &["arn:aws:iam::*:role/*"], &[arn], true);
        check("ArnEquals", &["arn:aws:iam::*:role/*"], &[arn], true);
        check("ArnLike", &["arn:*:role/*:x:y:z"], &[arn], false);
        check("ArnNotLike", &["arn:aws:iam::*:user/*"], &[arn], true);
        check("ArnNotEquals", &[arn], &[arn], false);
    }

    #[test]
    fn missing_keys() {
        for operator in ["StringEquals", "StringLike", "ArnLike", "StringEqualsIgnoreCase"] {
            check(operator, &["*"], &[], false);
            check(&format!("{operator}IfExists"), &["*"], &[], true);
        }
        for operator in ["StringNotEquals", "StringNotLike", "ArnNotLike", "StringNotEqualsIgnoreCase"] {
            check(operator, &["*"], &[], true);
        }
        check("NumericNotEquals", &["1"], &[], true);
        check("NotIpAddress", &["10.0.0.0/8"], &[], true);
        check("Bool", &["false"], &[], false);
        check("BoolIfExists", &["false"], &[], true);
        check("Null", &["true"], &[], true);
        check("Null", &["true"], &["x"], false);
        check("Null", &["false"], &["x"], true);
        check("Null", &["false"], &[], false);
    }

    #[test]
    fn sets() {
        check("ForAllValues:StringEquals", &["a", "b"], &["a", "b"], true);
        check("ForAllValues:StringEquals", &["a", "b"], &["a", "c"], false);
        check("ForAllValues:StringEquals", &["a"], &[], true);
        check("ForAnyValue:StringEquals", &["a"], &["c", "a"], true);
        check("ForAnyValue:StringEquals", &["a"], &["c"], false);
        check("ForAnyValue:StringEquals", &["a"], &[], false);
        check("ForAnyValue:StringNotEquals", &["a"], &["a", "b"], true);
        check("ForAllValues:StringNotLike", &["a*"], &["b", "c"], true);
        check("ForAllValues:StringNotLike", &["a*"], &["b", "ab"], false);
        check("ForAnyValue:StringEqualsIfExists", &["a"], &[], true);
    }

    #[test]
    fn missing_variables_match_nothing() {
        check("StringLike", &["${aws:userid}*"], &["x"], false);
        // A negation of what cannot be known never gives.
        check("StringNotLike", &["${aws:userid}*"], &["x"], false);
        check("StringNotEquals", &["${aws:userid}", "x"], &["x"], false);
    }

    #[test]
    fn unknown_operators() {
        for name in [
            "",
            "BinaryEquals",
            "stringequals",
            "Numeric",
            "DateLike",
            "ForAllValues:Null",
            "StringEqualsifexists",
        ] {
            assert_eq!(Operator::parse(name), None, "{name}");
        }
    }
}
