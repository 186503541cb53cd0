/** The bar that searches the output of a terminal. */
import { useEffect, useRef, useState } from "preact/hooks";
import type { LiveTerminal } from "./live";

export function Find(props: { readonly live: LiveTerminal; readonly onClose: () => void }) {
  const { live } = props;
  const [text, setText] = useState("");
  const [isFound, setFound] = useState(true);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => {
    field.current?.focus();
    return () => live.screen.endFind();
  }, []);
  const find = (what: string, direction: "next" | "previous", asTyped: boolean) => {
    void live.screen.find(what, direction, asTyped).then(setFound);
  };
  return (
    <search aria-label="Search in the terminal">
      <form
        class="term-find"
        onSubmit={(event) => {
          event.preventDefault();
          find(text, "previous", false);
        }}
        onKeyDown={(event) => {
          if (event.key === "Escape") props.onClose();
        }}
      >
        <input
          ref={field}
          type="search"
          aria-label="Text to search for"
          placeholder="Search"
          value={text}
          onInput={(event) => {
            setText(event.currentTarget.value);
            find(event.currentTarget.value, "previous", true);
          }}
        />
        <button type="submit" class="plain small" aria-label="Further up" title="Further up (Enter)">
          ↑
        </button>
        <button
          type="button"
          class="plain small"
          aria-label="Further down"
          title="Further down"
          onClick={() => find(text, "next", false)}
        >
          ↓
        </button>
        <span role="status" class="small muted">
          {text !== "" && !isFound ? "Not found" : ""}
        </span>
        <button type="button" class="plain small" aria-label="End the search" onClick={props.onClose}>
          ×
        </button>
      </form>
    </search>
  );
}
