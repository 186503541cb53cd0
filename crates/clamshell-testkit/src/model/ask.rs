//! What a request to a model asks, out of the shapes of four APIs.
//!
//! Nothing is validated beyond what a script looks at: a shape that is not understood asks nothing.

use serde_json::Value;

/// Which API a request speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Api {
    /// Anthropic Messages.
    #[default]
    Messages,
    /// OpenAI Responses.
    Responses,
    /// OpenAI chat completions.
    Chat,
    /// Gemini `generateContent` and `streamGenerateContent`.
    Gemini,
}

/// A request for an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ask {
    /// Its API.
    pub api: Api,
    /// Name of the model.
    pub model: String,
    /// Whether the answer comes as a stream of events.
    pub is_stream: bool,
    /// Last text of the user, all its parts. What comes after the result of a tool is no new text.
    pub prompt: String,
    /// Results of tools after that text.
    pub tool_results: usize,
    /// Names of the tools that may be called.
    pub tools: Vec<String>,
    /// JSON schema of the answer, when it must have one.
    pub schema: Option<Value>,
}

/// One message of the conversation, as far as scripts care.
enum Turn {
    User(String),
    Results(usize),
    Other,
}

impl Ask {
    /// Anthropic Messages.
    pub(super) fn messages(body: &Value) -> Self {
        let turns = list(&body["messages"]).map(|message| {
            let results = list(&message["content"]).filter(|part| part["type"] == "tool_result").count();
            match (message["role"].as_str(), results) {
                (Some("user"), 0) => Turn::User(texts(&message["content"])),
                (Some("user"), results) => Turn::Results(results),
                _ => Turn::Other,
            }
        });
        Self {
            tools: names(&body["tools"], |tool| &tool["name"]),
            schema: schema(&body["output_config"]["format"]["schema"])
                .or_else(|| schema(&body["output_format"]["schema"])),
            ..Self::of(Api::Messages, body, turns)
        }
    }

    /// OpenAI Responses.
    pub(super) fn responses(body: &Value) -> Self {
        let turns = list(&body["input"]).map(|item| match (item["type"].as_str(), item["role"].as_str()) {
            (Some("message") | None, Some("user")) => Turn::User(texts(&item["content"])),
            (Some("function_call_output" | "custom_tool_call_output"), _) => Turn::Results(1),
            _ => Turn::Other,
        });
        let mut ask = Self {
            tools: names(&body["tools"], |tool| &tool["name"]),
            schema: schema(&body["text"]["format"]["schema"]),
            ..Self::of(Api::Responses, body, turns)
        };
        if let Some(text) = body["input"].as_str() {
            text.clone_into(&mut ask.prompt);
        }
        ask
    }

    /// OpenAI chat completions.
    pub(super) fn chat(body: &Value) -> Self {
        let turns = list(&body["messages"]).map(|message| match message["role"].as_str() {
            Some("user") => Turn::User(texts(&message["content"])),
            Some("tool") => Turn::Results(1),
            _ => Turn::Other,
        });
        Self {
            tools: names(&body["tools"], |tool| &tool["function"]["name"]),
            schema: schema(&body["response_format"]["json_schema"]["schema"]),
            ..Self::of(Api::Chat, body, turns)
        }
    }

    /// Gemini; the path has the model and whether it streams.
    pub(super) fn gemini(model: &str, is_stream: bool, body: &Value) -> Self {
        let turns = list(&body["contents"]).map(|content| {
            let results =
                list(&content["parts"]).filter(|part| part.get("functionResponse").is_some()).count();
            match (content["role"].as_str(), results) {
                (Some("user") | None, 0) => Turn::User(texts(&content["parts"])),
                (Some("user" | "function") | None, results) => Turn::Results(results),
                _ => Turn::Other,
            }
        });
        let declared = list(&body["tools"]).flat_map(|tool| list(&tool["functionDeclarations"]));
        let tools = declared.filter_map(|tool| tool["name"].as_str()).map(str::to_owned).collect();
        let settings = &body["generationConfig"];
        Self {
            tools,
            model: model.to_owned(),
            is_stream,
            schema: schema(&settings["responseJsonSchema"]).or_else(|| schema(&settings["responseSchema"])),
            ..Self::of(Api::Gemini, body, turns)
        }
    }

    fn of(api: Api, body: &Value, turns: impl Iterator<Item = Turn>) -> Self {
        let (mut prompt, mut tool_results) = (String::new(), 0);
        for turn in turns {
            match turn {
                Turn::User(text) => (prompt, tool_results) = (text, 0),
                Turn::Results(count) => tool_results += count,
                Turn::Other => {}
            }
        }
        Self {
            api,
            model: body["model"].as_str().unwrap_or("unnamed").to_owned(),
            is_stream: body["stream"] == true,
            prompt,
            tool_results,
            ..Self::default()
        }
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The text of a content: a string, or the texts of its parts, a line each.
fn texts(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        parts => list(parts).filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"),
    }
}

fn names(tools: &Value, name: impl Fn(&Value) -> &Value) -> Vec<String> {
    list(tools).filter_map(|tool| name(tool).as_str()).map(str::to_owned).collect()
}

fn schema(value: &Value) -> Option<Value> {
    value.is_object().then(|| value.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(ask: &Ask, api: Api, prompt: &str, tool_results: usize, tools: &[&str]) {
        let seen = (ask.api, ask.prompt.as_str(), ask.tool_results, ask.tools.iter().map(String::as_str));
        assert_eq!((seen.0, seen.1, seen.2), (api, prompt, tool_results), "{ask:?}");
        assert_eq!(seen.3.collect::<Vec<_>>(), tools);
    }

    #[test]
    fn messages_end_with_the_last_text() {
        let mut body = json!({"model": "claude", "stream": true, "tools": [{"name": "Bash"}, {"type": "x"}], "messages": [
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": [{"type": "text", "text": "no"}]},
            {"role": "user", "content": [{"type": "text", "text": "remember"}, {"type": "text", "text": "second"}]}]});
        let ask = Ask::messages(&body);
        check(&ask, Api::Messages, "remember\nsecond", 0, &["Bash"]);
        assert!(ask.is_stream);
        let more = body["messages"].as_array_mut().unwrap();
        more.push(
            json!({"role": "assistant", "content": [{"type": "tool_use", "name": "Bash", "input": {}}]}),
        );
        // A reminder that comes with a result is no prompt.
        more.push(json!({"role": "user", "content": [
            {"type": "tool_result", "content": "ok"}, {"type": "text", "text": "reminder"}]}));
        check(&Ask::messages(&body), Api::Messages, "remember\nsecond", 1, &["Bash"]);
    }

    #[test]
    fn responses_have_items_or_a_text() {
        let ask = Ask::responses(&json!({"model": "m", "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "be good"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "do it"}]},
            {"type": "function_call", "name": "exec_command"},
            {"type": "function_call_output", "output": "x"}],
            "tools": [{"type": "function", "name": "exec_command"}, {"type": "web_search"}]}));
        check(&ask, Api::Responses, "do it", 1, &["exec_command"]);
        check(&Ask::responses(&json!({"input": "short"})), Api::Responses, "short", 0, &[]);
    }

    #[test]
    fn chats_count_results() {
        let ask = Ask::chat(&json!({"messages": [
            {"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "hey"}]},
            {"role": "assistant", "tool_calls": []}, {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}],
            "tools": [{"type": "function", "function": {"name": "bash"}}],
            "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}}));
        check(&ask, Api::Chat, "hey", 2, &["bash"]);
        assert_eq!(ask.schema, Some(json!({"type": "object"})));
    }

    #[test]
    fn gemini_has_parts() {
        let body = json!({"contents": [
            {"role": "user", "parts": [{"text": "go"}]},
            {"role": "model", "parts": [{"functionCall": {"name": "run_shell_command"}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "run_shell_command"}}]}],
            "tools": [{"functionDeclarations": [{"name": "run_shell_command"}]}]});
        let ask = Ask::gemini("flash", true, &body);
        check(&ask, Api::Gemini, "go", 1, &["run_shell_command"]);
        assert_eq!((ask.model.as_str(), ask.is_stream), ("flash", true));
    }

    #[test]
    fn other_shapes_ask_nothing() {
        for body in
            [json!(null), json!([1]), json!({"messages": 7, "input": {}, "contents": "x", "tools": {}})]
        {
            for ask in [
                Ask::messages(&body),
                Ask::responses(&body),
                Ask::chat(&body),
                Ask::gemini("m", false, &body),
            ] {
                check(&ask, ask.api, "", 0, &[]);
            }
        }
    }
}
