/** Calls of agents and their answers as they come, remembered for as long as the page is there. */
import { signal } from "@preact/signals";
import { ApiError, send } from "../../api/client";
import { randomId } from "../../api/ids";
import { bytes, count, duration } from "../../components/format";
import { explain } from "../../components/toast";
import { Answer } from "./answer";

const SESSION_HEADER = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id";
/** Calls that the page remembers of each runtime. */
const HISTORY_MAX = 50;

/** A call and what came of it. */
export interface Call {
  readonly id: string;
  readonly sent: string;
  readonly endpoint: string;
  readonly session: string;
  readonly state: "running" | "done" | "stopped" | "failed";
  readonly text: string;
  readonly note: string;
}

/** Calls of this page by runtime, oldest first; gone after a reload. */
const history = signal<ReadonlyMap<string, readonly Call[]>>(new Map());

function remember(arn: string, call: Call): void {
  const calls = callsOf(arn);
  const known = calls.some((one) => one.id === call.id);
  const next = known
    ? calls.map((one) => (one.id === call.id ? call : one))
    : [...calls, call].slice(-HISTORY_MAX);
  history.value = new Map(history.value).set(arn, next);
}

/** The calls of a runtime. */
export function callsOf(arn: string): readonly Call[] {
  return history.value.get(arn) ?? [];
}

/** Calls the agent; all that happens is seen in the history. */
export async function invoke(of: {
  readonly arn: string;
  readonly endpoint: string;
  readonly session: string;
  readonly body: string;
  readonly shown: string;
  readonly signal: AbortSignal;
}): Promise<void> {
  const started = performance.now();
  const took = () => duration(performance.now() - started);
  const seconds = () => `${((performance.now() - started) / 1000).toFixed(1)} s`;
  let call: Call = {
    id: randomId(),
    sent: of.shown,
    endpoint: of.endpoint,
    session: of.session,
    state: "running",
    text: "",
    note: "Waiting for the agent…",
  };
  const change = (next: Partial<Call>) => {
    call = { ...call, ...next };
    remember(of.arn, call);
  };
  change({});
  let answer: Answer | null = null;
  try {
    const path = `/runtimes/${encodeURIComponent(of.arn)}/invocations?qualifier=${encodeURIComponent(of.endpoint)}`;
    const response = await send("POST", path, {
      body: of.body,
      signal: of.signal,
      headers: {
        "Content-Type": "application/json",
        Accept: "application/json, text/event-stream, text/plain",
        [SESSION_HEADER]: of.session,
      },
    });
    answer = new Answer(response.headers.get("Content-Type") ?? "");
    const reader = response.body?.getReader();
    let shownAt = 0;
    while (reader !== undefined) {
      const { done, value } = await reader.read();
      if (done) break;
      answer.push(value);
      // At most 20 drawings a second, however small the pieces are.
      if (performance.now() - shownAt < 50) continue;
      shownAt = performance.now();
      change({ text: answer.text, note: `Receiving, ${bytes(answer.bytes)}…` });
    }
    answer.end();
    const parts = [answer.events > 0 ? count(answer.events, "event") : "", bytes(answer.bytes), seconds()];
    const cut = answer.cut ? ", the end is not shown" : "";
    change({ state: "done", text: answer.text, note: parts.filter((part) => part !== "").join(", ") + cut });
  } catch (cause) {
    const text = answer?.text ?? "";
    if (of.signal.aborted) {
      change({ state: "stopped", text, note: `Stopped after ${took()}` });
      return;
    }
    const code = cause instanceof ApiError ? `${cause.code}: ` : "";
    const id =
      cause instanceof ApiError && cause.requestId !== undefined ? `, request ${cause.requestId}` : "";
    const message =
      cause instanceof TypeError ? "The connection was lost before the end" : (explain(cause) ?? "");
    change({
      state: "failed",
      text: `${text}${text === "" ? "" : "\n"}${code}${message}`,
      note: `Failed after ${took()}${id}`,
    });
  }
}

/** An id that is long enough for a session of the API: at least 33 characters. */
export function newSession(): string {
  return `web-${randomId()}${randomId()}`.slice(0, 40);
}
