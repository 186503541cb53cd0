//! Gemini.

use serde_json::{Value, json};

use super::{Answered, Content, Event, deltas};

fn chunk(answer: &Answered<'_>, part: &Value, reason: Option<&str>) -> Value {
    let mut candidate = json!({"index": 0, "content": {"role": "model", "parts": [part]}});
    let mut chunk = json!({"modelVersion": answer.ask.model, "responseId": answer.id("")});
    if let Some(reason) = reason {
        candidate["finishReason"] = json!(reason);
        let usage = answer.usage;
        chunk["usageMetadata"] = json!({
            "promptTokenCount": usage.input_total(),
            "cachedContentTokenCount": usage.cache_read,
            "candidatesTokenCount": usage.output,
            "totalTokenCount": usage.input_total().saturating_add(usage.output),
        });
    }
    chunk["candidates"] = json!([candidate]);
    chunk
}

pub(super) fn whole(answer: &Answered<'_>) -> Value {
    let part = match answer.content {
        Content::Text { pieces, .. } => json!({"text": pieces.concat()}),
        Content::Call { tool, input } => json!({"functionCall": {"name": tool, "args": input}}),
    };
    chunk(answer, &part, Some("STOP"))
}

pub(super) fn events(answer: &Answered<'_>) -> Vec<Event> {
    match answer.content {
        Content::Text { pieces, pause } => {
            let mut events =
                deltas(pieces, pause, |piece| Event::data(&chunk(answer, &json!({"text": piece}), None)));
            events.push(Event::data(&chunk(answer, &json!({"text": ""}), Some("STOP"))));
            events
        }
        Content::Call { .. } => vec![Event::data(&whole(answer))],
    }
}
