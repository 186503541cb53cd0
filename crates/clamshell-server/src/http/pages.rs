//! Pages of the control plane's lists (`runtime.md` 2.4): `maxResults` and `nextToken` in the query.
//!
//! The token is the name of the last item of the page before, so no state is kept between pages.

use clamshell_wire::{AwsError, query::find};

/// Items of a page, unless the caller wants fewer.
const RESULTS_MAX: usize = 100;

/// One page of `items`, and the token of the next one when there are more. `name` tells an item's name.
///
/// # Errors
/// A `ValidationException` for a number out of bounds and for a token that no page of this list gave.
pub(super) fn page<T>(
    items: Vec<T>,
    query: &[(String, String)],
    name: impl Fn(&T) -> String,
) -> Result<(Vec<T>, Option<String>), AwsError> {
    let results = match find(query, "maxResults") {
        None => RESULTS_MAX,
        Some(text) => results(text)?,
    };
    let start = match find(query, "nextToken") {
        None => 0,
        Some(token) => {
            let last = items.iter().position(|item| name(item) == token);
            let wrong =
                || AwsError::invalid_field("nextToken", "Member must be a token of an earlier answer");
            last.ok_or_else(wrong)? + 1
        }
    };
    let is_last = items.len() - start <= results;
    let page: Vec<T> = items.into_iter().skip(start).take(results).collect();
    let token = page.last().filter(|_| !is_last).map(name);
    Ok((page, token))
}

fn results(text: &str) -> Result<usize, AwsError> {
    let wrong = |rule: &str| AwsError::invalid_field("maxResults", rule);
    match text.parse::<i64>() {
        Ok(number @ 1..) => match usize::try_from(number) {
            Ok(number) if number <= RESULTS_MAX => Ok(number),
            _ => Err(wrong("Member must have value less than or equal to 100")),
        },
        Ok(_) => Err(wrong("Member must have value greater than or equal to 1")),
        Err(_) => Err(wrong("Member must be an integer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(count: usize, query: &[(&str, &str)], expect: Result<(&[usize], Option<&str>), &str>) {
        let query: Vec<(String, String)> =
            query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let seen = page((0..count).collect(), &query, ToString::to_string)
            .map_err(|error| error.field_list[0].message.clone());
        let expect =
            expect.map(|(items, token)| (items.to_vec(), token.map(str::to_owned))).map_err(str::to_owned);
        assert_eq!(seen, expect, "{count} {query:?}");
    }

    #[test]
    fn pages_follow_each_other() {
        let all: Vec<usize> = (0..101).collect();
        check(0, &[], Ok((&[], None)));
        check(100, &[], Ok((&all[..100], None)));
        check(101, &[], Ok((&all[..100], Some("99"))));
        check(101, &[("nextToken", "99")], Ok((&[100], None)));
        check(5, &[("maxResults", "2")], Ok((&[0, 1], Some("1"))));
        check(5, &[("maxResults", "2"), ("nextToken", "1")], Ok((&[2, 3], Some("3"))));
        check(5, &[("maxResults", "2"), ("nextToken", "3")], Ok((&[4], None)));
        check(4, &[("maxResults", "2"), ("nextToken", "1")], Ok((&[2, 3], None)));
        check(4, &[("nextToken", "3")], Ok((&[], None)));
    }

    #[test]
    fn bounds_and_tokens() {
        let least = Err("Member must have value greater than or equal to 1");
        let most = Err("Member must have value less than or equal to 100");
        let integer = Err("Member must be an integer");
        for (text, expect) in [
            ("0", least),
            ("-1", least),
            ("101", most),
            ("9223372036854775807", most),
            ("9223372036854775808", integer),
            ("", integer),
            ("x", integer),
            ("1.5", integer),
        ] {
            check(3, &[("maxResults", text)], expect);
        }
        for token in ["", "7", "x"] {
            check(3, &[("nextToken", token)], Err("Member must be a token of an earlier answer"));
        }
    }
}
