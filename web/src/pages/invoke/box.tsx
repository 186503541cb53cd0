/** Calls an agent and shows its answer as it comes. */
import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, send } from "../../api/client";
import { randomId } from "../../api/ids";
import { bytes, count, duration } from "../../components/format";
import { CopyButton } from "../../components/parts";
import { explain } from "../../components/toast";
import { Answer, payload } from "./answer";

const SESSION_HEADER = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id";
/** Calls that the page remembers of each runtime. */
const HISTORY_MAX = 50;

/** A call and what came of it. */
interface Call {
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
  const calls = history.value.get(arn) ?? [];
  const known = calls.some((one) => one.id === call.id);
  const next = known
    ? calls.map((one) => (one.id === call.id ? call : one))
    : [...calls, call].slice(-HISTORY_MAX);
  history.value = new Map(history.value).set(arn, next);
}

/** The box. */
export function InvokeBox(props: {
  readonly arn: string;
  readonly endpoints: readonly string[];
  readonly protocol: string;
}) {
  const [kind, setKind] = useState<"prompt" | "json">(props.protocol === "HTTP" ? "prompt" : "json");
  const [text, setText] = useState("");
  const [endpoint, setEndpoint] = useState("DEFAULT");
  const [session, setSession] = useState(newSession);
  const [problem, setProblem] = useState<string | null>(null);
  const [stopper, setStopper] = useState<AbortController | null>(null);
  const running = useRef<AbortController | null>(null);
  const list = useRef<HTMLOListElement>(null);
  const calls = history.value.get(props.arn) ?? [];

  useEffect(() => () => running.current?.abort(), []);
  useEffect(() => {
    list.current?.lastElementChild?.scrollIntoView({ block: "nearest" });
  }, [calls.length]);

  const invoke = async () => {
    const body = payload(kind, text);
    if (body === null) {
      setProblem("This is no JSON");
      return;
    }
    setProblem(null);
    const stop = new AbortController();
    running.current = stop;
    setStopper(stop);
    await run({ arn: props.arn, endpoint, session, body, shown: text, signal: stop.signal });
    running.current = null;
    setStopper(null);
  };

  return (
    <section class="card" aria-label="Invoke">
      <h2>Invoke</h2>
      <ol class="calls" ref={list}>
        {calls.map((call) => (
          <CallView key={call.id} call={call} />
        ))}
      </ol>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (stopper === null) void invoke();
        }}
      >
        <label class="field">
          <span>{kind === "prompt" ? "Prompt" : "Payload (JSON)"}</span>
          <textarea
            rows={3}
            value={text}
            spellcheck={kind === "prompt"}
            placeholder={kind === "prompt" ? "What shall the agent do?" : '{"prompt": "…"}'}
            onInput={(event) => setText(event.currentTarget.value)}
            onKeyDown={(event) => {
              if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
              event.preventDefault();
              event.currentTarget.form?.requestSubmit();
            }}
          />
        </label>
        {problem !== null && (
          <p class="error-text" role="alert">
            {problem}
          </p>
        )}
        <div class="row">
          <button type="submit" class="primary" disabled={stopper !== null || text === ""}>
            Send
          </button>
          <button type="button" disabled={stopper === null} onClick={() => stopper?.abort()}>
            Stop
          </button>
          <span class="muted small wide-only">Ctrl+Enter sends</span>
          <span class="grow" />
          <select
            aria-label="Send as"
            value={kind}
            onChange={(event) => setKind(event.currentTarget.value === "json" ? "json" : "prompt")}
          >
            <option value="prompt">Prompt</option>
            <option value="json">JSON</option>
          </select>
          <select
            aria-label="Endpoint"
            value={endpoint}
            onChange={(event) => setEndpoint(event.currentTarget.value)}
          >
            {props.endpoints.map((name) => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </select>
          <label class="check">
            Session
            <input
              class="mono"
              size={18}
              minLength={33}
              maxLength={256}
              value={session}
              spellcheck={false}
              onInput={(event) => setSession(event.currentTarget.value)}
            />
          </label>
          <button type="button" onClick={() => setSession(newSession())}>
            New session
          </button>
        </div>
      </form>
    </section>
  );
}

function CallView(props: { readonly call: Call }) {
  const { call } = props;
  return (
    <li class="call">
      <pre class="call-sent">{call.sent}</pre>
      <pre
        class={call.state === "failed" ? "call-answer error-text" : "call-answer"}
        aria-busy={call.state === "running"}
      >
        {call.text}
      </pre>
      <div class="row muted small">
        <span role="status">{call.note}</span>
        <span class="clip mono" title={call.session}>
          {call.endpoint} · {call.session}
        </span>
        {call.text !== "" && <CopyButton text={call.text} />}
      </div>
    </li>
  );
}

/** Calls the agent; all that happens is seen in the history. */
async function run(of: {
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
function newSession(): string {
  return `web-${randomId()}${randomId()}`.slice(0, 40);
}
