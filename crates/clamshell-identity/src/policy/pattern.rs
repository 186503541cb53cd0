//! Wildcards `*` and `?`, plain and over the six parts of an ARN.

/// A piece of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// This character.
    Char(char),
    /// `?`: any one character.
    One,
    /// `*`: any run of characters, also none.
    Many,
}

/// `text` with `*` and `?` as wildcards.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    text.chars()
        .map(|char| match char {
            '*' => Token::Many,
            '?' => Token::One,
            char => Token::Char(char),
        })
        .collect()
}

/// Whether `pattern` covers all of `text`.
///
/// On a mismatch it goes back to the last `*` alone, so the cost is at most the product of the two
/// lengths; both are bounded (a policy by 20480 characters, a text by the request's headers).
pub(super) fn matches(pattern: &[Token], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(Token::Many) => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(Token::One) => {
                p += 1;
                t += 1;
                continue;
            }
            Some(Token::Char(char)) if *char == text[t] => {
                p += 1;
                t += 1;
                continue;
            }
            Some(Token::Char(_)) | None => {}
        }
        let Some((after, start)) = retry else {
            return false;
        };
        retry = Some((after, start + 1));
        (p, t) = (after, start + 1);
    }
    pattern[p..].iter().all(|token| *token == Token::Many)
}

/// Whether `pattern` covers `text`, both plain.
pub(super) fn matches_text(pattern: &str, text: &str) -> bool {
    matches(&tokens(pattern), &text.chars().collect::<Vec<_>>())
}

/// As [`matches_text`] without regard to the case of ASCII letters, as actions compare.
pub(super) fn matches_ignoring_case(pattern: &str, text: &str) -> bool {
    matches_text(&pattern.to_ascii_lowercase(), &text.to_ascii_lowercase())
}

/// Whether an ARN pattern covers an ARN: each of the six parts by itself, so that a `*` in one never
/// swallows the next. The pattern `*` alone covers everything.
pub(super) fn matches_arn(pattern: &[Token], arn: &str) -> bool {
    if pattern == [Token::Many] {
        return true;
    }
    let patterns: Vec<&[Token]> = pattern.splitn(6, |token| *token == Token::Char(':')).collect();
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    patterns.len() == 6
        && parts.len() == 6
        && patterns.iter().zip(parts).all(|(pattern, part)| {
            let part: Vec<char> = part.chars().collect();
            matches(pattern, &part)
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition of a wildcard, exponential and obviously right.
    fn naive(pattern: &[Token], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((Token::Many, rest)) => (0..=text.len()).any(|skip| naive(rest, &text[skip..])),
            Some((Token::One, rest)) => !text.is_empty() && naive(rest, &text[1..]),
            Some((Token::Char(char), rest)) => text.first() == Some(char) && naive(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn the_matcher_agrees_with_the_definition(pattern in "[ab*?é]{0,9}", text in "[abé]{0,9}") {
            let text_chars: Vec<char> = text.chars().collect();
            prop_assert_eq!(matches_text(&pattern, &text), naive(&tokens(&pattern), &text_chars));
        }

        #[test]
        fn a_text_matches_itself_and_any_widening(text in "[a-z:/]{1,30}", at in 0_usize..30) {
            let at = at.min(text.len() - 1);
            prop_assert!(matches_text(&text, &text));
            let widened = format!("{}*{}", &text[..at], &text[at + 1..]);
            prop_assert!(matches_text(&widened, &text));
            let one = format!("{}?{}", &text[..at], &text[at + 1..]);
            prop_assert!(matches_text(&one, &text));
        }
    }

    #[test]
    fn wildcards_of_arns_stay_within_their_part() {
        let check = |pattern: &str, arn: &str, expect: bool| {
            assert_eq!(matches_arn(&tokens(pattern), arn), expect, "{pattern} {arn}");
        };
        let arn = "arn:aws:bedrock-agentcore:us-west-2:111122223333:runtime/a-1/runtime-endpoint/DEFAULT";
        check("*", arn, true);
        check("arn:aws:bedrock-agentcore:*:*:runtime/*", arn, true);
        check("arn:*:bedrock-agentcore:us-????-2:111122223333:runtime/a-1/*", arn, true);
        check("arn:aws:bedrock-agentcore:*:runtime/*", arn, false);
        check("arn:aws:bedrock-agentcore:*", arn, false);
        check("arn:aws:*:*:*:*", arn, true);
        check("arn:aws:bedrock-agentcore:us-west-2:*:runtime/b*", arn, false);
        check("arn:aws:x:*:1:y", "arn:aws:x:a:b:1:y", false);
        check("arn:aws:x:a:1:*", "arn:aws:x:a:1:log:group:z", true);
        check("arn:aws:x:a:1:*", "*", false);
    }

    #[test]
    fn hostile_patterns_stay_cheap() {
        let pattern = format!("{}b", "*a".repeat(1000));
        assert!(!matches_text(&pattern, &"a".repeat(4000)));
    }
}
