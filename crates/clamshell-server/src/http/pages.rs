//! Pages of the control plane's lists (`runtime.md` 2.4): `maxResults` and `nextToken` in the query.
//!
//! Newest first. The token says where the page before ended, by the place of its last item, so no state is kept between
//! pages and items may come and go: what was there all the time is listed once.

use clamshell_wire::AwsError;

/// Items of a page, unless the caller wants fewer.
const RESULTS_MAX: usize = 100;

/// Place of an item: when it was made, and what tells it from others of that time.
type Place = (u64, String);

/// One page of `items`, greatest place first, and the token of the next one when there are more.
///
/// # Errors
/// A `ValidationException` for a token that no page could have given.
pub(super) fn page<T>(
    mut items: Vec<T>,
    max_results: Option<i32>,
    next_token: Option<&str>,
    place: impl Fn(&T) -> Place,
) -> Result<(Vec<T>, Option<String>), AwsError> {
    let results = max_results.and_then(|most| usize::try_from(most).ok()).unwrap_or(RESULTS_MAX);
    let results = results.clamp(1, RESULTS_MAX);
    items.sort_by_cached_key(|item| std::cmp::Reverse(place(item)));
    let start = match next_token {
        None => 0,
        Some(token) => {
            let wrong =
                || AwsError::invalid_field("nextToken", "Member must be a token of an earlier answer");
            let last = parse(token).ok_or_else(wrong)?;
            items.partition_point(|item| place(item) >= last)
        }
    };
    let is_last = items.len() - start <= results;
    let page: Vec<T> = items.into_iter().skip(start).take(results).collect();
    let token = page.last().filter(|_| !is_last).map(|item| {
        let (time, name) = place(item);
        format!("{time:x}.{name}")
    });
    Ok((page, token))
}

fn parse(token: &str) -> Option<Place> {
    let (time, name) = token.split_once('.')?;
    let plain = (1..=16).contains(&time.len()) && time.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some((u64::from_str_radix(time, 16).ok().filter(|_| plain)?, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        items: &[u64],
        most: Option<i32>,
        token: Option<&str>,
        expect: Result<(&[u64], Option<&str>), &str>,
    ) {
        let seen = page(items.to_vec(), most, token, |item| (*item, String::new()))
            .map_err(|error| error.field_list[0].message.clone());
        let expect =
            expect.map(|(items, token)| (items.to_vec(), token.map(str::to_owned))).map_err(str::to_owned);
        assert_eq!(seen, expect, "{most:?} {token:?}");
    }

    #[test]
    fn pages_follow_each_other() {
        let all: Vec<u64> = (0..101).collect();
        let newest: Vec<u64> = (1..101).rev().collect();
        check(&[], None, None, Ok((&[], None)));
        check(&all[1..], None, None, Ok((&newest, None)));
        check(&all, None, None, Ok((&newest, Some("1."))));
        check(&all, None, Some("1."), Ok((&[0], None)));
        check(&[5, 1, 3, 2, 4], Some(2), None, Ok((&[5, 4], Some("4."))));
        check(&[1, 2, 3, 4, 5], Some(2), Some("4."), Ok((&[3, 2], Some("2."))));
        check(&[1, 2, 3, 4, 5], Some(2), Some("2."), Ok((&[1], None)));
        check(&[1, 2, 3, 4], Some(2), Some("3."), Ok((&[2, 1], None)));
        check(&[1, 2], None, Some("1."), Ok((&[], None)));
    }

    #[test]
    fn items_that_come_and_go_between_pages_do_not_matter() {
        check(&[1, 2, 3, 5], Some(2), Some("4."), Ok((&[3, 2], Some("2."))));
        check(&[1, 9], Some(2), Some("4."), Ok((&[1], None)));
    }

    #[test]
    fn tokens_of_nobody_are_refused() {
        for token in ["", "7", "x.", ".", "+1.", "-1.a", "10000000000000000."] {
            check(&[1, 2, 3], None, Some(token), Err("Member must be a token of an earlier answer"));
        }
    }
}
