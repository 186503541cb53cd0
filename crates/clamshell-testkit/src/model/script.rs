//! What a scripted model answers: rules over the current turn, the first that fits wins.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::ask::Ask;

/// Rules of one script; no test needs more than a few, and each request looks at all of them.
const RULES_MAX: usize = 1_000;
/// Pieces of one streamed answer: as many as a long answer of a real model has.
const PIECES_MAX: usize = 10_000;
/// Pause between two pieces; longer ones are what clients take for a dead model.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Tools that run a command, as coding agents name them, with the key of the command and whether they want a description.
const SHELLS: &[(&str, &str, bool)] = &[
    ("Bash", "command", true),
    ("bash", "command", true),
    ("run_shell_command", "command", true),
    ("exec_command", "cmd", false),
    ("shell_command", "command", false),
];

/// Tokens that an answer says it cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Usage {
    /// Tokens of the request that no cache had.
    pub input: u64,
    /// Tokens of the answer.
    pub output: u64,
    /// Tokens read from a cache.
    pub cache_read: u64,
    /// Tokens written to a cache.
    pub cache_write: u64,
}

impl Default for Usage {
    fn default() -> Self {
        Self { input: 100, output: 10, cache_read: 0, cache_write: 0 }
    }
}

impl Usage {
    /// All tokens of the request, as the APIs count that do not tell cached ones apart.
    pub fn input_total(self) -> u64 {
        self.input.saturating_add(self.cache_read).saturating_add(self.cache_write)
    }
}

/// What a rule answers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// A text.
    Say(String),
    /// A call of a tool that the request offers.
    Call {
        /// Its name, whole.
        tool: String,
        /// Its input.
        input: Map<String, Value>,
    },
    /// A command for the shell tool of whichever agent asks.
    Shell(String),
    /// An error of the API.
    Fail {
        /// Status of HTTP, from 400 to 599.
        status: u16,
        /// What it says.
        message: String,
    },
}

/// One rule. Without conditions it fits every request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What the last text of the user contains.
    #[serde(default)]
    pub prompt_contains: Option<String>,
    /// How many results of tools the current turn has.
    #[serde(default)]
    pub tool_results: Option<usize>,
    /// What is answered.
    pub answer: Answer,
    /// In how many pieces a text is streamed.
    #[serde(default)]
    pub pieces: Option<usize>,
    /// Pause before each piece but the first.
    #[serde(default)]
    pub pause_ms: u64,
    /// Tokens, when not those of the script.
    #[serde(default)]
    pub usage: Option<Usage>,
}

impl Rule {
    fn new(answer: Answer) -> Self {
        Self { prompt_contains: None, tool_results: None, answer, pieces: None, pause_ms: 0, usage: None }
    }

    /// Says a text.
    pub fn say(text: &str) -> Self {
        Self::new(Answer::Say(text.to_owned()))
    }

    /// Calls a tool; fits only requests that offer it. Values that are no JSON object count as an empty one.
    pub fn call(tool: &str, input: Value) -> Self {
        let input = if let Value::Object(input) = input { input } else { Map::new() };
        Self::new(Answer::Call { tool: tool.to_owned(), input })
    }

    /// Runs a command with the agent's own shell tool; fits only requests that offer one.
    pub fn shell(command: &str) -> Self {
        Self::new(Answer::Shell(command.to_owned()))
    }

    /// Fails with a status of HTTP.
    pub fn fail(status: u16, message: &str) -> Self {
        Self::new(Answer::Fail { status, message: message.to_owned() })
    }

    /// Only when the last text of the user contains this.
    pub fn when(mut self, contains: &str) -> Self {
        self.prompt_contains = Some(contains.to_owned());
        self
    }

    /// Only when the current turn has so many results of tools; 0 is before the first call.
    pub fn after_results(mut self, count: usize) -> Self {
        self.tool_results = Some(count);
        self
    }

    /// Streams the text in so many pieces, with a pause between them.
    pub fn in_pieces(mut self, pieces: usize, pause: Duration) -> Self {
        self.pieces = Some(pieces);
        self.pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Costs so many tokens.
    pub fn costing(mut self, usage: Usage) -> Self {
        self.usage = Some(usage);
        self
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.pieces.is_some_and(|pieces| !(1..=PIECES_MAX).contains(&pieces)) {
            return Err("`pieces` is from 1 to 10000");
        }
        if Duration::from_millis(self.pause_ms) > PAUSE_MAX {
            return Err("`pause_ms` is at most 30000");
        }
        match &self.answer {
            Answer::Fail { status, .. } if !(400..600).contains(status) => Err("`status` is from 400 to 599"),
            Answer::Fail { .. } | Answer::Say(_) | Answer::Call { .. } | Answer::Shell(_) => Ok(()),
        }
    }
}

/// Why a script cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// It is no script in JSON.
    #[error("not a script")]
    Json(#[source] serde_json::Error),
    /// A rule is out of bounds.
    #[error("rule {number} of the script: {why}")]
    Rule {
        /// Its number, from 0.
        number: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// It has too many rules.
    #[error("a script has at most {RULES_MAX} rules")]
    TooLong,
}

/// A whole script.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Rules, the first that fits answers.
    pub rules: Vec<Rule>,
    /// What is said when none fits.
    #[serde(default = "otherwise")]
    pub otherwise: String,
    /// Tokens of every answer that names no others.
    #[serde(default)]
    pub usage: Usage,
}

fn otherwise() -> String {
    "I have nothing to say to that.".to_owned()
}

impl Script {
    /// These rules, and the usual numbers.
    ///
    /// # Errors
    /// When a rule is out of bounds.
    pub fn new(rules: Vec<Rule>) -> Result<Self, ScriptError> {
        Self { rules, otherwise: otherwise(), usage: Usage::default() }.checked()
    }

    /// Reads a script from JSON: `{"rules": [{"prompt_contains": "...", "answer": {"say": "..."}}]}`.
    ///
    /// # Errors
    /// When it is none, or out of bounds.
    pub fn parse(json: &[u8]) -> Result<Self, ScriptError> {
        serde_json::from_slice::<Self>(json).map_err(ScriptError::Json)?.checked()
    }

    fn checked(self) -> Result<Self, ScriptError> {
        if self.rules.len() > RULES_MAX {
            return Err(ScriptError::TooLong);
        }
        for (number, rule) in self.rules.iter().enumerate() {
            rule.check().map_err(|why| ScriptError::Rule { number, why })?;
        }
        Ok(self)
    }

    /// The answer to a request, and the number of the rule that gave it.
    pub(super) fn answer(&self, ask: &Ask) -> (Option<usize>, Reply) {
        for (number, rule) in self.rules.iter().enumerate() {
            let fits = rule.prompt_contains.as_ref().is_none_or(|text| ask.prompt.contains(text.as_str()))
                && rule.tool_results.is_none_or(|count| ask.tool_results == count);
            if let Some(said) = fits.then(|| said(rule, ask)).flatten() {
                return (Some(number), Reply { said, usage: rule.usage.unwrap_or(self.usage) });
            }
        }
        let said = Said::Text { pieces: vec![self.otherwise.clone()], pause: Duration::ZERO };
        (None, Reply { said, usage: self.usage })
    }
}

/// What a rule says to a request; `None` when the request offers no such tool.
fn said(rule: &Rule, ask: &Ask) -> Option<Said> {
    let offered = |name: &str| ask.tools.iter().any(|tool| tool == name);
    match &rule.answer {
        // Whoever asks for JSON of a shape cannot use another text: routers and titles of agents do.
        Answer::Say(_) if ask.schema.is_some() => {
            let text = ask.schema.as_ref().map(|schema| sample(schema, 0).to_string())?;
            Some(Said::Text { pieces: vec![text], pause: Duration::ZERO })
        }
        Answer::Say(text) => Some(Said::Text {
            pieces: cut(text, rule.pieces.unwrap_or(3)),
            pause: Duration::from_millis(rule.pause_ms),
        }),
        Answer::Call { tool, input } => {
            offered(tool).then(|| Said::Call { tool: tool.clone(), input: input.clone() })
        }
        Answer::Shell(command) => {
            let (tool, key, described) = SHELLS.iter().find(|(name, _, _)| offered(name))?;
            let mut input = Map::from_iter([((*key).to_owned(), json!(command))]);
            if *described {
                input.insert("description".to_owned(), json!("Runs what the script says"));
            }
            Some(Said::Call { tool: (*tool).to_owned(), input })
        }
        Answer::Fail { status, message } => Some(Said::Error { status: *status, message: message.clone() }),
    }
}

/// What is sent, in no API's shape yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) said: Said,
    pub(super) usage: Usage,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Text { pieces: Vec<String>, pause: Duration },
    Call { tool: String, input: Map<String, Value> },
    Error { status: u16, message: String },
}

/// Cuts a text between characters into at most so many pieces of about the same length.
fn cut(text: &str, pieces: usize) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let each = characters.len().div_ceil(pieces.max(1)).max(1);
    characters.chunks(each).map(|piece| piece.iter().collect()).collect()
}

/// A value of a JSON schema: the first of an enumeration, the least of numbers, and no optional list entries.
fn sample(schema: &Value, depth: usize) -> Value {
    // Deeper schemas are loops.
    const DEPTH_MAX: usize = 16;
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return first.clone();
    }
    // Gemini writes the types in capitals.
    match schema["type"].as_str().unwrap_or_default().to_ascii_lowercase().as_str() {
        "object" if depth < DEPTH_MAX => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            properties.map(|(name, inner)| (name.clone(), sample(inner, depth + 1))).collect()
        }
        "string" => json!("sample"),
        "integer" | "number" => schema.get("minimum").cloned().unwrap_or_else(|| json!(1)),
        "boolean" => json!(false),
        "array" => json!([]),
        _ => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(prompt: &str, tools: &[&str], tool_results: usize) -> Ask {
        let tools = tools.iter().map(|tool| (*tool).to_owned()).collect();
        Ask { model: "m".into(), prompt: prompt.into(), tools, tool_results, ..Ask::default() }
    }

    #[test]
    fn the_first_rule_that_fits_answers() {
        let script = Script::new(vec![
            Rule::shell("touch it").when("MAKE").after_results(0),
            Rule::call("Look", json!({"at": 1})).when("LOOK"),
            Rule::say("done").when("MAKE"),
            Rule::fail(529, "busy").when("FAIL"),
        ])
        .unwrap();
        let check = |ask: Ask, number: Option<usize>, expect: Said| {
            let (found, reply) = script.answer(&ask);
            assert_eq!((found, reply.said), (number, expect), "{ask:?}");
        };
        let text = |pieces: &[&str]| Said::Text {
            pieces: pieces.iter().map(|piece| (*piece).to_owned()).collect(),
            pause: Duration::ZERO,
        };
        let call = |tool: &str, input: Value| Said::Call {
            tool: tool.to_owned(),
            input: input.as_object().unwrap().clone(),
        };
        check(
            ask("MAKE it", &["exec_command"], 0),
            Some(0),
            call("exec_command", json!({"cmd": "touch it"})),
        );
        check(
            ask("MAKE it", &["Read", "Bash"], 0),
            Some(0),
            call("Bash", json!({"command": "touch it", "description": "Runs what the script says"})),
        );
        check(ask("MAKE it", &["Bash"], 1), Some(2), text(&["do", "ne"]));
        // A request without tools, for a title for instance, gets no call.
        check(ask("MAKE it", &[], 0), Some(2), text(&["do", "ne"]));
        check(ask("LOOK", &["Look"], 3), Some(1), call("Look", json!({"at": 1})));
        check(ask("FAIL", &[], 0), Some(3), Said::Error { status: 529, message: "busy".into() });
        check(ask("what?", &[], 0), None, text(&["I have nothing to say to that."]));
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("äöü-xyz", 3), ["äöü", "-xy", "z"]);
        assert_eq!(cut("ab", 5), ["a", "b"]);
        assert_eq!(cut("", 3), Vec::<String>::new());
    }

    #[test]
    fn who_asks_for_a_shape_gets_it() {
        let script = Script::new(vec![Rule::say("hello")]).unwrap();
        let schema = json!({"type": "OBJECT", "properties": {
            "model_choice": {"type": "STRING", "enum": ["flash", "pro"]},
            "score": {"type": "integer", "minimum": 4}, "why": {"type": "string"}, "more": {"type": "array"}}});
        let (_, reply) = script.answer(&Ask { schema: Some(schema), ..Ask::default() });
        let expect = json!({"model_choice": "flash", "score": 4, "why": "sample", "more": []});
        let Said::Text { pieces, .. } = reply.said else { unreachable!("{reply:?}") };
        assert_eq!(serde_json::from_str::<Value>(&pieces.concat()).unwrap(), expect);
    }

    #[test]
    fn scripts_are_read_and_bounded() {
        let script = Script::parse(
            br#"{"usage": {"input": 5}, "rules": [
                {"prompt_contains": "a", "answer": {"shell": "ls"}, "tool_results": 0},
                {"answer": {"say": "b"}, "pieces": 2, "pause_ms": 9}]}"#,
        )
        .unwrap();
        assert_eq!(script.usage, Usage { input: 5, ..Usage::default() });
        let expect = [
            Rule::shell("ls").when("a").after_results(0),
            Rule::say("b").in_pieces(2, Duration::from_millis(9)),
        ];
        assert_eq!(script.rules, expect);
        for wrong in [
            &br#"{"rules": [{"answer": {"sing": "b"}}]}"#[..],
            br#"{"rules": [{"answer": {"say": "b"}, "pieces": 0}]}"#,
            br#"{"rules": [{"answer": {"say": "b"}, "pause_ms": 30001}]}"#,
            br#"{"rules": [{"answer": {"fail": {"status": 200, "message": ""}}}]}"#,
            br#"{"rules": [], "ruls": []}"#,
            b"",
        ] {
            Script::parse(wrong).unwrap_err();
        }
        let many = vec![Rule::say("x"); RULES_MAX + 1];
        assert!(matches!(Script::new(many), Err(ScriptError::TooLong)));
    }
}
