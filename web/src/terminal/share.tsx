/** Links that let somebody else watch or use a shell. */
import { useEffect, useState } from "preact/hooks";
import { Dialog } from "../components/dialog";
import { when } from "../components/format";
import { CopyButton } from "../components/parts";
import { attempt, explain } from "../components/toast";
import { nameOf } from "./actions";
import { listShares, makeShare, removeShare, type Share } from "./api";
import type { Pane } from "./layout";

const TIMES: readonly { readonly label: string; readonly seconds: number }[] = [
  { label: "1 hour", seconds: 3600 },
  { label: "8 hours", seconds: 8 * 3600 },
  { label: "1 day", seconds: 86_400 },
  { label: "7 days", seconds: 7 * 86_400 },
  { label: "30 days", seconds: 30 * 86_400 },
];

export function ShareDialog(props: { readonly pane: Pane; readonly onClose: () => void }) {
  const { pane } = props;
  const [shares, setShares] = useState<readonly Share[] | null>(null);
  const [access, setAccess] = useState<Share["access"]>("watch");
  const [seconds, setSeconds] = useState(3600);
  const [made, setMade] = useState<Share | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  const load = () => {
    listShares(pane).then(setShares, (cause: unknown) => setFailure(explain(cause)));
  };
  useEffect(load, []);
  const make = async () => {
    await attempt(async () => setMade(await makeShare(pane, access, seconds)));
    load();
  };
  return (
    <Dialog title={`Share ${nameOf(pane)}`} onClose={props.onClose}>
      <form
        class="row"
        onSubmit={(event) => {
          event.preventDefault();
          void make();
        }}
      >
        <label class="field">
          <span>Whoever has the link may</span>
          <select
            value={access}
            onChange={(event) => setAccess(event.currentTarget.value === "write" ? "write" : "watch")}
          >
            <option value="watch">watch</option>
            <option value="write">watch and type</option>
          </select>
        </label>
        <label class="field">
          <span>for</span>
          <select value={seconds} onChange={(event) => setSeconds(Number(event.currentTarget.value))}>
            {TIMES.map((time) => (
              <option key={time.seconds} value={time.seconds}>
                {time.label}
              </option>
            ))}
          </select>
        </label>
        <button type="submit" class="primary">
          Make a link
        </button>
      </form>
      {access === "write" && (
        <p class="small">Whoever has such a link can run anything that you can run in this session.</p>
      )}
      {made?.url !== undefined && (
        <div class="notice">
          <p>This link is shown only now:</p>
          <p>
            <code class="term-share-url">{made.url}</code>
          </p>
          <CopyButton text={made.url} label="Copy the link" />
        </div>
      )}
      {failure !== null && (
        <p role="alert" class="error-text">
          {failure}
        </p>
      )}
      <section class="term-menu">
        <h3>Links of this shell</h3>
        {shares?.length === 0 && <p class="muted">There are none.</p>}
        <ul>
          {(shares ?? []).map((share) => (
            <li key={share.shareId}>
              <span class="grow">
                {share.access === "watch" ? "Watch" : "Watch and type"}{" "}
                <span class="muted small">until {when(share.expiresAt)}</span>
              </span>
              <button
                type="button"
                class="danger"
                onClick={() =>
                  void attempt(() => removeShare(share.shareId), "The link was removed").then(load)
                }
              >
                Remove
              </button>
            </li>
          ))}
        </ul>
      </section>
    </Dialog>
  );
}
