/** Tabs above, the grid of the tab that is shown below, and the panels over it. */
import { useEffect } from "preact/hooks";
import type { SignedIn } from "../api/me";
import { focusSoon, newShell, panel, perform } from "./actions";
import { Find } from "./find";
import { Help } from "./help";
import { activeTab, focusedPane, swap, type Tab } from "./layout";
import { Menu } from "./menu";
import { PaneView } from "./pane";
import { PhoneKeys } from "./phone_keys";
import { ShareDialog } from "./share";
import { actionOf } from "./shortcuts";
import { arrange, layout, liveOf } from "./store";
import { Tabs } from "./tabs";

/** The view; `me` is null for the holder of a share link, who has one terminal and no menu. */
export function Workspace(props: { readonly me: SignedIn | null }) {
  const { me } = props;
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const action = actionOf(event);
      if (action && (me || action.do === "find" || action.do === "font" || action.do === "reader")) {
        event.preventDefault();
        event.stopPropagation();
        if (!event.repeat || action.do === "font") perform(action);
        return;
      }
      takeClipboardKeys(event);
    };
    // Before xterm.js, which would send the key to the program.
    addEventListener("keydown", onKey, { capture: true });
    return () => removeEventListener("keydown", onKey, { capture: true });
  }, [me]);
  useEffect(followKeyboardOfPhone, []);

  const tab = activeTab(layout.value);
  const pane = focusedPane(layout.value);
  return (
    <div class="term">
      {me && <Tabs me={me} />}
      {/* Tabs that are not shown are there all the same: their terminals stay connected. */}
      {layout.value.tabs.map((each) => (
        <Grid key={each.id} tab={each} me={me} isShown={each.id === tab?.id} />
      ))}
      {!tab && me && <NoTerminal me={me} />}
      {pane && <PhoneKeys live={liveOf(pane)} />}
      {panel.value === "help" && <Help onClose={closePanel} />}
      {panel.value === "menu" && me && <Menu me={me} onClose={closePanel} />}
      {panel.value === "share" && pane && me && <ShareDialog pane={pane} onClose={closePanel} />}
      {panel.value === "find" && pane && <Find key={pane.id} live={liveOf(pane)} onClose={closePanel} />}
    </div>
  );
}

function Grid(props: { readonly tab: Tab; readonly me: SignedIn | null; readonly isShown: boolean }) {
  const { tab, me, isShown } = props;
  const canWrite = me !== null && me.role !== "viewer";
  const empty = Array.from({ length: tab.grid - tab.panes.length }, (_, index) => index);
  return (
    <div
      class={`term-grid cells-${tab.grid}`}
      id={`panes-${tab.id}`}
      role="tabpanel"
      aria-label="Terminals of this tab"
      hidden={!isShown}
    >
      {tab.panes.map((pane) => (
        <PaneView
          key={pane.id}
          pane={pane}
          me={me}
          isFocused={pane.id === tab.focused}
          onDrop={(other) => arrange((all) => swap(all, other, pane.id))}
        />
      ))}
      {empty.map((index) => (
        <div key={index} class="term-cell-empty">
          {canWrite && (
            <button type="button" onClick={() => newShell(undefined, "cell")}>
              New shell here
            </button>
          )}
        </div>
      ))}
    </div>
  );
}

function NoTerminal(props: { readonly me: SignedIn }) {
  const { mode, role } = props.me;
  const canWrite = role !== "viewer";
  return (
    <div class="empty term-empty">
      <h1>No terminal is open</h1>
      <p>
        {canWrite
          ? "A shell goes on when its tab is closed, and is found again here."
          : "Your role may watch shells that others have started."}
      </p>
      <div class="row">
        {canWrite && (
          <button type="button" class="primary" onClick={() => newShell()}>
            New shell
          </button>
        )}
        <button type="button" onClick={() => perform({ do: "list" })}>
          Sessions and running shells
        </button>
      </div>
      {canWrite && mode === "serve" && (
        <p class="muted small">
          Or from a shell of your own: <code>clamshell exec --it</code>
        </p>
      )}
    </div>
  );
}

function closePanel(): void {
  panel.value = "none";
  focusSoon();
}

/** Ctrl+Shift+C and V, which terminals have for what Ctrl+C and V cannot be. */
function takeClipboardKeys(event: KeyboardEvent): void {
  if (!event.ctrlKey || !event.shiftKey || event.altKey || event.metaKey) return;
  if (!(event.target instanceof Element) || !event.target.closest(".term-host")) return;
  const pane = focusedPane(layout.value);
  if (!pane || (event.code !== "KeyC" && event.code !== "KeyV")) return;
  event.preventDefault();
  event.stopPropagation();
  if (event.code === "KeyC") liveOf(pane).copy();
  else void liveOf(pane).paste();
}

/** The keyboard of a phone covers the page: the view takes what is left above it. */
function followKeyboardOfPhone(): (() => void) | undefined {
  const viewport = window.visualViewport;
  if (!viewport) return undefined;
  const follow = () => {
    const covered = Math.max(0, innerHeight - viewport.height - viewport.offsetTop);
    document.documentElement.style.setProperty("--keyboard", `${Math.round(covered)}px`);
  };
  viewport.addEventListener("resize", follow);
  viewport.addEventListener("scroll", follow);
  // To ask now would lay the page out before its terminals are in it.
  requestAnimationFrame(follow);
  return () => {
    viewport.removeEventListener("resize", follow);
    viewport.removeEventListener("scroll", follow);
    document.documentElement.style.removeProperty("--keyboard");
  };
}
