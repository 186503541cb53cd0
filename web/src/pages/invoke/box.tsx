/** Calls an agent and shows its answer as it comes. */
import { useEffect, useRef, useState } from "preact/hooks";
import { CopyButton } from "../../components/parts";
import { payload } from "./answer";
import { type Call, callsOf, invoke, newSession } from "./calls";

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
  const calls = callsOf(props.arn);

  useEffect(() => () => running.current?.abort(), []);
  useEffect(() => {
    list.current?.lastElementChild?.scrollIntoView({ block: "nearest" });
  }, [calls.length]);

  const sendIt = async () => {
    const body = payload(kind, text);
    if (body === null) {
      setProblem("This is no JSON");
      return;
    }
    setProblem(null);
    const stop = new AbortController();
    running.current = stop;
    setStopper(stop);
    await invoke({ arn: props.arn, endpoint, session, body, shown: text, signal: stop.signal });
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
          if (stopper === null) void sendIt();
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
          <Target
            endpoints={props.endpoints}
            endpoint={endpoint}
            session={session}
            onEndpoint={setEndpoint}
            onSession={setSession}
          />
        </div>
      </form>
    </section>
  );
}

function Target(props: {
  readonly endpoints: readonly string[];
  readonly endpoint: string;
  readonly session: string;
  readonly onEndpoint: (endpoint: string) => void;
  readonly onSession: (session: string) => void;
}) {
  return (
    <>
      <select
        aria-label="Endpoint"
        value={props.endpoint}
        onChange={(event) => props.onEndpoint(event.currentTarget.value)}
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
          value={props.session}
          spellcheck={false}
          onInput={(event) => props.onSession(event.currentTarget.value)}
        />
      </label>
      <button type="button" onClick={() => props.onSession(newSession())}>
        New session
      </button>
    </>
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
