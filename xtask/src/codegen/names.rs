//! Names of the model as Rust spells them.

/// `agentRuntimeArn` as a field: `agent_runtime_arn`.
pub(super) fn field(name: &str) -> String {
    let snake = words(name).join("_").to_lowercase();
    if matches!(snake.as_str(), "type" | "ref" | "match" | "use" | "move" | "in" | "where") {
        return format!("r#{snake}");
    }
    snake
}

/// `AgentRuntimeArn` as a static: `AGENT_RUNTIME_ARN`.
pub(super) fn constant(name: &str) -> String {
    words(name).join("_").to_uppercase()
}

/// A shape or a member of a union as a type or variant: the first letter upper case.
pub(super) fn pascal(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

/// `PYTHON_3_10` as a variant: `Python3_10`.
pub(super) fn variant(value: &str) -> String {
    // Values that are written in words keep their letters.
    if value.contains(|letter: char| letter.is_ascii_lowercase()) {
        return value.split(|letter: char| !letter.is_ascii_alphanumeric()).map(pascal).collect();
    }
    let mut name = String::new();
    for word in value.split(|letter: char| !letter.is_ascii_alphanumeric()) {
        let between_digits = name.ends_with(|letter: char| letter.is_ascii_digit())
            && word.starts_with(|letter: char| letter.is_ascii_digit());
        if between_digits {
            name.push('_');
        }
        name.push_str(&pascal(&word.to_ascii_lowercase()));
    }
    name
}

/// What serde's `camelCase` makes of a field.
pub(super) fn camel(field: &str) -> String {
    let mut words = field.trim_start_matches("r#").split('_');
    words.next().unwrap_or_default().chars().chain(words.map(pascal).collect::<String>().chars()).collect()
}

fn words(name: &str) -> Vec<String> {
    let letters: Vec<char> = name.chars().collect();
    let mut words: Vec<String> = Vec::new();
    for (index, letter) in letters.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| letters[before]);
        let starts = match before {
            None => true,
            Some(before) if !letter.is_ascii_uppercase() => before == '_',
            Some(before) if before.is_ascii_uppercase() => {
                letters.get(index + 1).is_some_and(char::is_ascii_lowercase)
            }
            Some(_) => true,
        };
        if *letter == '_' {
            continue;
        }
        match words.last_mut() {
            Some(word) if !starts => word.push(*letter),
            _ => words.push(letter.to_string()),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_at_words() {
        let table = [
            ("agentRuntimeArn", "agent_runtime_arn"),
            ("requireMMDSV2", "require_mmdsv2"),
            ("customJWTAuthorizer", "custom_jwt_authorizer"),
            ("s3FilesAccessPoint", "s3_files_access_point"),
            ("AWSThing", "aws_thing"),
            ("type", "r#type"),
        ];
        for (name, expect) in table {
            assert_eq!(field(name), expect);
        }
        assert_eq!(constant("S3LocationBucketString"), "S3_LOCATION_BUCKET_STRING");
        assert_eq!(constant("entryPoint"), "ENTRY_POINT");
        assert_eq!((camel("agent_runtime_arn"), camel("r#type")), ("agentRuntimeArn".into(), "type".into()));
    }

    #[test]
    fn values_become_variants() {
        let table = [
            ("PYTHON_3_10", "Python3_10"),
            ("NODE_22", "Node22"),
            ("A2A", "A2a"),
            ("CREATE_FAILED", "CreateFailed"),
            ("CannotParse", "CannotParse"),
        ];
        for (value, expect) in table {
            assert_eq!(variant(value), expect);
        }
    }
}
