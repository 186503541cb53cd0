//! Anthropic Messages.

use serde_json::{Value, json};

use super::{Answered, Content, Event, deltas, halves};

fn usage(answer: &Answered<'_>) -> Value {
    let usage = answer.usage;
    json!({
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation_input_tokens": usage.cache_write,
    })
}

fn reason(content: Content<'_>) -> &'static str {
    match content {
        Content::Text { .. } => "end_turn",
        Content::Call { .. } => "tool_use",
    }
}

fn message(answer: &Answered<'_>, content: &Value, reason: &Value) -> Value {
    json!({
        "id": answer.id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": answer.ask.model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": null,
        "usage": usage(answer),
    })
}

pub(super) fn whole(answer: &Answered<'_>) -> Value {
    let block = match answer.content {
        Content::Text { pieces, .. } => json!({"type": "text", "text": pieces.concat()}),
        Content::Call { tool, input } => {
            json!({"type": "tool_use", "id": answer.id("toolu_"), "name": tool, "input": input})
        }
    };
    message(answer, &json!([block]), &json!(reason(answer.content)))
}

pub(super) fn events(answer: &Answered<'_>) -> Vec<Event> {
    let delta =
        |delta: Value| Event::typed(&json!({"type": "content_block_delta", "index": 0, "delta": delta}));
    let mut start = message(answer, &json!([]), &json!(null));
    // The answer is not written yet.
    start["usage"]["output_tokens"] = json!(1);
    let block = match answer.content {
        Content::Text { .. } => json!({"type": "text", "text": ""}),
        Content::Call { tool, .. } => {
            json!({"type": "tool_use", "id": answer.id("toolu_"), "name": tool, "input": {}})
        }
    };
    let mut events = vec![
        Event::typed(&json!({"type": "message_start", "message": start})),
        Event::typed(&json!({"type": "content_block_start", "index": 0, "content_block": block})),
        Event::typed(&json!({"type": "ping"})),
    ];
    match answer.content {
        Content::Text { pieces, pause } => {
            events.extend(deltas(pieces, pause, |piece| delta(json!({"type": "text_delta", "text": piece}))));
        }
        Content::Call { input, .. } => {
            let input = json!(input).to_string();
            let part = |half| delta(json!({"type": "input_json_delta", "partial_json": half}));
            events.extend(halves(&input).map(part));
        }
    }
    events.push(Event::typed(&json!({"type": "content_block_stop", "index": 0})));
    events.push(Event::typed(&json!({
        "type": "message_delta",
        "delta": {"stop_reason": reason(answer.content), "stop_sequence": null},
        "usage": usage(answer),
    })));
    events.push(Event::typed(&json!({"type": "message_stop"})));
    events
}
