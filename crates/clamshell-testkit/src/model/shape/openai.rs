//! OpenAI Responses and chat completions.

use serde_json::{Value, json};

use super::{Answered, Content, Event, deltas, halves};

/// When every answer was made: no client looks at it, and tests have no clock.
const CREATED: u64 = 1_767_225_600;

/// The one item of a response; `is_done` says whether its content is there yet.
fn item(answer: &Answered<'_>, is_done: bool) -> Value {
    let status = if is_done { "completed" } else { "in_progress" };
    match answer.content {
        Content::Text { pieces, .. } => {
            let part = json!({"type": "output_text", "text": pieces.concat(), "annotations": []});
            let content = if is_done { json!([part]) } else { json!([]) };
            json!({"type": "message", "id": answer.id("msg_"), "role": "assistant", "status": status,
                "content": content})
        }
        Content::Call { tool, input } => {
            let arguments = if is_done { json!(input).to_string() } else { String::new() };
            json!({"type": "function_call", "id": answer.id("fc_"), "call_id": answer.id("call_"), "name": tool,
                "status": status, "arguments": arguments})
        }
    }
}

fn response_in(answer: &Answered<'_>, status: &str, output: &Value, usage: &Value) -> Value {
    json!({
        "id": answer.id("resp_"),
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": null,
        "incomplete_details": null,
        "model": answer.ask.model,
        "output": output,
        "parallel_tool_calls": false,
        "usage": usage,
    })
}

pub(super) fn response(answer: &Answered<'_>) -> Value {
    let usage = answer.usage;
    let usage = json!({
        "input_tokens": usage.input_total(),
        "input_tokens_details": {"cached_tokens": usage.cache_read},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.input_total().saturating_add(usage.output),
    });
    response_in(answer, "completed", &json!([item(answer, true)]), &usage)
}

pub(super) fn response_events(answer: &Answered<'_>) -> Vec<Event> {
    let begun = response_in(answer, "in_progress", &json!([]), &json!(null));
    let item_id = item(answer, false)["id"].clone();
    let mut values = vec![
        json!({"type": "response.created", "response": begun}),
        json!({"type": "response.in_progress", "response": begun}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": item(answer, false)}),
    ];
    let mut pauses = Vec::new();
    let in_item = |kind: &str, key: &str, value: Value| {
        let mut event = json!({"type": kind, "item_id": item_id, "output_index": 0});
        if !kind.contains("arguments") {
            event["content_index"] = json!(0);
        }
        event[key] = value;
        event
    };
    match answer.content {
        Content::Text { pieces, pause } => {
            let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": []});
            let text = pieces.concat();
            values.push(in_item("response.content_part.added", "part", part("")));
            for (at, piece) in pieces.iter().enumerate() {
                if at > 0 {
                    pauses.push((values.len(), pause));
                }
                values.push(in_item("response.output_text.delta", "delta", json!(piece)));
            }
            values.push(in_item("response.output_text.done", "text", json!(text)));
            values.push(in_item("response.content_part.done", "part", part(&text)));
        }
        Content::Call { input, .. } => {
            let arguments = json!(input).to_string();
            for half in halves(&arguments) {
                values.push(in_item("response.function_call_arguments.delta", "delta", json!(half)));
            }
            values.push(in_item("response.function_call_arguments.done", "arguments", json!(arguments)));
        }
    }
    values.push(json!({"type": "response.output_item.done", "output_index": 0, "item": item(answer, true)}));
    values.push(json!({"type": "response.completed", "response": response(answer)}));
    let mut events: Vec<Event> = Vec::with_capacity(values.len());
    for (number, mut value) in values.into_iter().enumerate() {
        value["sequence_number"] = json!(number);
        let pause =
            pauses.iter().find(|(at, _)| *at == number).map_or_else(Default::default, |(_, pause)| *pause);
        events.push(Event::typed(&value).after(pause));
    }
    events
}

fn finish(content: Content<'_>) -> &'static str {
    match content {
        Content::Text { .. } => "stop",
        Content::Call { .. } => "tool_calls",
    }
}

fn chat_usage(answer: &Answered<'_>) -> Value {
    let usage = answer.usage;
    json!({
        "prompt_tokens": usage.input_total(),
        "prompt_tokens_details": {"cached_tokens": usage.cache_read},
        "completion_tokens": usage.output,
        "total_tokens": usage.input_total().saturating_add(usage.output),
    })
}

pub(super) fn chat(answer: &Answered<'_>) -> Value {
    let message = match answer.content {
        Content::Text { pieces, .. } => {
            json!({"role": "assistant", "content": pieces.concat(), "refusal": null})
        }
        Content::Call { tool, input } => json!({"role": "assistant", "content": null, "tool_calls": [{
            "id": answer.id("call_"), "type": "function",
            "function": {"name": tool, "arguments": json!(input).to_string()}}]}),
    };
    json!({
        "id": answer.id("chatcmpl-"),
        "object": "chat.completion",
        "created": CREATED,
        "model": answer.ask.model,
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish(answer.content)}],
        "usage": chat_usage(answer),
    })
}

pub(super) fn chat_events(answer: &Answered<'_>) -> Vec<Event> {
    let chunk = |choices: Value, usage: Value| {
        Event::data(
            &json!({"id": answer.id("chatcmpl-"), "object": "chat.completion.chunk", "created": CREATED,
            "model": answer.ask.model, "choices": choices, "usage": usage}),
        )
    };
    let step = |delta: Value, reason: Value| {
        chunk(json!([{"index": 0, "delta": delta, "finish_reason": reason}]), json!(null))
    };
    let mut events = vec![step(json!({"role": "assistant", "content": ""}), json!(null))];
    match answer.content {
        Content::Text { pieces, pause } => {
            events.extend(deltas(pieces, pause, |piece| step(json!({"content": piece}), json!(null))));
        }
        Content::Call { tool, input } => {
            let arguments = json!(input).to_string();
            let [first, second] = halves(&arguments);
            events.push(step(
                json!({"tool_calls": [{"index": 0, "id": answer.id("call_"), "type": "function",
                    "function": {"name": tool, "arguments": first}}]}),
                json!(null),
            ));
            events.push(step(
                json!({"tool_calls": [{"index": 0, "function": {"arguments": second}}]}),
                json!(null),
            ));
        }
    }
    events.push(step(json!({}), json!(finish(answer.content))));
    events.push(chunk(json!([]), chat_usage(answer)));
    events.push(Event { name: None, data: "[DONE]".to_owned(), pause: std::time::Duration::ZERO });
    events
}
