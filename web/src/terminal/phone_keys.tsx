/** Keys that the keyboard of a phone does not have. */
import type { LiveTerminal } from "./live";

interface PhoneKey {
  readonly label: string;
  readonly name: string;
  /** What it types; arrows depend on the mode that the program set. */
  readonly types: string;
  readonly arrow?: string;
}

const KEYS: readonly PhoneKey[] = [
  { label: "Esc", name: "Escape", types: "\x1b" },
  { label: "Tab", name: "Tab", types: "\t" },
  { label: "↑", name: "Up", types: "", arrow: "A" },
  { label: "↓", name: "Down", types: "", arrow: "B" },
  { label: "←", name: "Left", types: "", arrow: "D" },
  { label: "→", name: "Right", types: "", arrow: "C" },
  { label: "/", name: "Slash", types: "/" },
  { label: "-", name: "Minus", types: "-" },
  { label: "|", name: "Bar", types: "|" },
  { label: "~", name: "Tilde", types: "~" },
];

export function PhoneKeys(props: { readonly live: LiveTerminal }) {
  const { live } = props;
  if (live.pane.access === "watch") return null;
  const press = (key: PhoneKey) => {
    const isApplication = live.screen.terminal.modes.applicationCursorKeysMode;
    const arrow = `\x1b${isApplication ? "O" : "["}${key.arrow}`;
    live.type(key.arrow === undefined ? key.types : arrow);
  };
  return (
    <div class="term-phone" role="toolbar" aria-label="Keys">
      <button
        type="button"
        aria-pressed={live.stickyCtrl.value}
        onPointerDown={(event) => event.preventDefault()}
        onClick={() => {
          live.stickyCtrl.value = !live.stickyCtrl.value;
        }}
      >
        Ctrl
      </button>
      {KEYS.map((key) => (
        <button
          key={key.name}
          type="button"
          aria-label={key.name}
          // The keyboard of the phone stays: the terminal keeps the focus.
          onPointerDown={(event) => event.preventDefault()}
          onClick={() => press(key)}
        >
          {key.label}
        </button>
      ))}
      <button
        type="button"
        onPointerDown={(event) => event.preventDefault()}
        onClick={() => void live.paste()}
      >
        Paste
      </button>
    </div>
  );
}
