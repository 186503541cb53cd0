//! Rust text with comments and literals blanked out, so that rules look at code alone.
//!
//! A scanner, not a parser: it knows where comments, strings and characters begin and end, nothing
//! else. Lines keep their numbers.

/// `text` with every comment, string and character literal replaced by spaces.
pub(super) fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let length = match rest {
            [b'/', b'/', ..] => rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
            [b'/', b'*', ..] => block_comment(rest),
            [b'"', ..] => string(rest),
            [b'\'', ..] => character(rest),
            [b'r' | b'b' | b'c', ..] if at == 0 || !is_word(bytes[at - 1]) => raw_string(rest),
            _ => 0,
        };
        for byte in &mut code[at..at + length] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at += length.max(1);
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// Whether `word` stands in `line` with nothing of a name beside it.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    let bytes = line.as_bytes();
    line.match_indices(word).any(|(start, _)| {
        let before = start.checked_sub(1).map(|index| bytes[index]);
        let after = bytes.get(start + word.len()).copied();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Number, from 0, of the line where the tests at the bottom of the file begin; the number of lines
/// when there are none.
pub(super) fn tests_start(code: &str) -> usize {
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    (0..lines.len())
        .find(|index| {
            lines[*index].starts_with("#[cfg(")
                && has_word(lines[*index], "test")
                && lines[index + 1..]
                    .iter()
                    .find(|line| !line.is_empty() && !line.starts_with("#["))
                    .is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
        })
        .unwrap_or(lines.len())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                at += 2;
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A character literal; 1 for a lifetime, whose quote alone is blanked.
fn character(rest: &[u8]) -> usize {
    let end = match rest.get(1) {
        Some(b'\\') => 3,
        Some(first) if *first < 0x80 => 2,
        Some(first) => 1 + usize::try_from(first.leading_ones()).unwrap_or(1),
        None => return 1,
    };
    if rest[1] != b'\\' {
        return if rest.get(end) == Some(&b'\'') { end + 1 } else { 1 };
    }
    // The longest is `'\u{10FFFF}'`.
    match rest.iter().take(14).skip(end).position(|byte| *byte == b'\'') {
        Some(offset) => end + offset + 1,
        None => 1,
    }
}

/// A raw string at `rest`; 0 when it is none.
fn raw_string(rest: &[u8]) -> usize {
    let prefix = match rest {
        [b'r', ..] => 1,
        [b'b' | b'c', b'r', ..] => 2,
        _ => return 0,
    };
    let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
    let body = prefix + hashes;
    if rest.get(body) != Some(&b'"') {
        return 0;
    }
    let mut end = vec![b'#'; hashes + 1];
    end[0] = b'"';
    let found = rest[body + 1..].windows(end.len()).position(|window| window == end);
    found.map_or(rest.len(), |offset| body + 1 + offset + end.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked() {
        let check = |text: &str, expect: &[&str]| {
            let code = code_only(text);
            assert_eq!(code.split_whitespace().collect::<Vec<_>>(), expect, "{text}");
            assert_eq!((code.len(), code.lines().count()), (text.len(), text.lines().count()), "{text}");
        };
        check("a // unsafe\nb", &["a", "b"]);
        check("a /* x /* y */ z\n */ b", &["a", "b"]);
        check("f(\"un\\\"safe\", 1)", &["f(", ",", "1)"]);
        check("r#\"a \" b\"# c", &["c"]);
        check("br\"a\\\" c", &["c"]);
        check("'\"' 'a x: &'b str", &["a", "x:", "&", "b", "str"]);
        check("'\\'' '\\u{1F41A}' '\\\\' 'é' y", &["y"]);
        check("for_r\"x\" z", &["for_r", "z"]);
        check("/* open", &[]);
        check("\"open", &[]);
        check("\"open\\", &[]);
    }

    #[test]
    fn words_have_borders() {
        assert!(has_word("unsafe {", "unsafe"));
        assert!(has_word("(unsafe)", "unsafe"));
        assert!(!has_word("unsafe_op", "unsafe"));
        assert!(!has_word("not_unsafe", "unsafe"));
    }

    #[test]
    fn tests_are_found_at_the_bottom() {
        assert_eq!(tests_start("use a;\n#[cfg(test)]\nuse b;\n\n#[cfg(test)]\nmod tests {\n}\n"), 4);
        assert_eq!(tests_start("#[cfg(test)]\nmod tests;\nfn a() {}\n"), 3);
    }
}
