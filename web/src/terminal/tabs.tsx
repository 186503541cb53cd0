/** The row of tabs, and what belongs to all of them: new shell, grid, font, help. */

import type { SignedIn } from "../api/me";
import { terminalFontSize } from "../components/preferences";
import { detach, focusSoon, nameOf, panel, perform, setGrid } from "./actions";
import { describeState } from "./effects";
import { activeTab, GRIDS, movePane, moveTab, show, type Tab } from "./layout";
import { arrange, layout, liveOf } from "./store";

const TAB_TYPE = "application/x-clamshell-tab";
/** What a dragged pane is called on its way. */
export const PANE_TYPE = "application/x-clamshell-pane";

export function Tabs(props: { readonly me: SignedIn }) {
  const shown = activeTab(layout.value);
  const canWrite = props.me.role !== "viewer";
  return (
    <div class="term-bar">
      <div class="term-tabs" role="tablist" aria-label="Terminals">
        {layout.value.tabs.map((tab, index) => (
          <TabButton key={tab.id} tab={tab} index={index} isShown={tab.id === shown?.id} />
        ))}
      </div>
      <div class="term-tools">
        {canWrite && (
          <button
            type="button"
            class="plain"
            aria-label="New shell"
            title="New shell (Alt+Shift+N)"
            onClick={() => perform({ do: "new" })}
          >
            +
          </button>
        )}
        <button
          type="button"
          class="plain"
          aria-label="Sessions and running shells"
          aria-haspopup="dialog"
          aria-expanded={panel.value === "menu"}
          title="Sessions and running shells (Alt+Shift+P)"
          onClick={() => perform({ do: "list" })}
        >
          ▾
        </button>
        <fieldset class="term-grids" disabled={!shown}>
          <legend class="visually-hidden">Panes side by side</legend>
          {GRIDS.map((grid) => (
            <button
              key={grid}
              type="button"
              class="plain"
              aria-label={grid === 1 ? "1 pane" : `${grid} panes`}
              aria-pressed={shown?.grid === grid}
              title={`${grid === 1 ? "1 pane" : `${grid} panes`} (Alt+Shift+G)`}
              onClick={() => setGrid(grid)}
            >
              {grid}
            </button>
          ))}
        </fieldset>
        <button
          type="button"
          class="plain wide-only"
          aria-label={`A−: smaller font, now ${terminalFontSize.value} pixels`}
          title="Smaller font (Alt+Shift+−)"
          onClick={() => perform({ do: "font", by: -1 })}
        >
          A−
        </button>
        <button
          type="button"
          class="plain wide-only"
          aria-label={`A+: larger font, now ${terminalFontSize.value} pixels`}
          title="Larger font (Alt+Shift+=)"
          onClick={() => perform({ do: "font", by: 1 })}
        >
          A+
        </button>
        <button
          type="button"
          class="plain"
          aria-label="Keys"
          title="Keys (Alt+Shift+H)"
          onClick={() => perform({ do: "help" })}
        >
          ?
        </button>
      </div>
    </div>
  );
}

function TabButton(props: { readonly tab: Tab; readonly index: number; readonly isShown: boolean }) {
  const { tab, index, isShown } = props;
  const pane = tab.panes.find((each) => each.id === tab.focused) ?? tab.panes[0];
  if (!pane) return null;
  const live = liveOf(pane);
  const name = nameOf(pane);
  const more = tab.panes.length > 1 ? ` +${tab.panes.length - 1}` : "";
  const state = live.state.value;
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: dragging has keys of its own, Alt+Shift with comma and period.
    <div
      class={`term-tab${isShown ? " shown" : ""}${live.hasBell.value ? " bell" : ""}`}
      role="presentation"
      draggable
      onDragStart={(event) => event.dataTransfer?.setData(TAB_TYPE, tab.id)}
      onDragOver={(event) => {
        const types = event.dataTransfer?.types ?? [];
        if (types.includes(TAB_TYPE) || types.includes(PANE_TYPE)) event.preventDefault();
      }}
      onDrop={(event) => {
        event.preventDefault();
        const dragged = event.dataTransfer?.getData(TAB_TYPE);
        if (dragged) arrange((all) => moveTab(all, dragged, index));
        const paneId = event.dataTransfer?.getData(PANE_TYPE);
        if (paneId) arrange((all) => movePane(all, paneId, tab.id));
      }}
      onAuxClick={(event) => {
        if (event.button === 1) detach(pane);
      }}
    >
      <button
        type="button"
        role="tab"
        class="plain term-tab-name"
        aria-selected={isShown}
        aria-controls={`panes-${tab.id}`}
        tabIndex={isShown ? 0 : -1}
        title={`${name} · ${describeState(state)}`}
        onClick={() => {
          arrange((all) => show(all, tab.id));
          focusSoon();
        }}
      >
        <i class={`dot ${state.name}`} aria-hidden="true" />
        <span class="term-tab-text">{name}</span>
        {more}
        <span class="visually-hidden">, {describeState(state)}</span>
      </button>
      {/* A list of tabs has nothing but tabs for those who hear it; they have the key, and the button at the terminal. */}
      <button
        type="button"
        class="plain term-tab-close"
        aria-hidden="true"
        tabIndex={-1}
        title="Detach; the shell goes on (Alt+Shift+D)"
        onClick={() => detach(pane)}
      >
        ×
      </button>
    </div>
  );
}
