import { describe, expect, it } from "vitest";
import * as layouts from "./layout";
import { EMPTY, type Layout, type Pane, parse, serialize, TABS_MAX } from "./layout";

function ids(): () => string {
  let last = 0;
  return () => {
    last += 1;
    return `t${last}`;
  };
}

const pane = (id: string): Pane => ({
  id,
  runtime: "default",
  qualifier: "DEFAULT",
  session: "s",
  shell: id,
  access: "write",
});

/** Tabs as text: `a*b|c` is a tab with a and b, b having the keyboard, before one with c. */
function draw(layout: Layout): string {
  return layout.tabs
    .map((tab) => {
      const panes = tab.panes.map((each) => (each.id === tab.focused ? `*${each.id}` : each.id)).join("");
      return `${tab.id === layout.active ? ">" : ""}${tab.grid}${panes}`;
    })
    .join(" ");
}

function build(...names: string[]): { layout: Layout; newId: () => string } {
  const newId = ids();
  const layout = names.reduce((all, name) => layouts.open(all, pane(name), "tab", newId), EMPTY);
  return { layout, newId };
}

describe("the layout", () => {
  it("opens in tabs and in free cells", () => {
    const { layout, newId } = build("a", "b");
    expect(draw(layout)).toBe("1*a >1*b");
    const grid = layouts.setGrid(layout, "t2", 2, newId);
    expect(draw(layouts.open(grid, pane("c"), "cell", newId))).toBe("1*a >2b*c");
    expect(draw(layouts.open(layout, pane("c"), "cell", newId))).toBe("1*a 1*b >1*c");
  });

  it("has an end", () => {
    const many = build(...Array.from({ length: TABS_MAX + 5 }, (_, at) => `p${at}`)).layout;
    expect(many.tabs).toHaveLength(TABS_MAX);
  });

  it("closes panes, then tabs", () => {
    const { layout, newId } = build("a", "b");
    const grid = layouts.open(layouts.setGrid(layout, "t2", 4, newId), pane("c"), "cell", newId);
    expect(draw(layouts.close(grid, "c"))).toBe("1*a >4*b");
    expect(draw(layouts.close(layouts.close(grid, "c"), "b"))).toBe(">1*a");
    expect(draw(layouts.close(layout, "a"))).toBe(">1*b");
    expect(layouts.close(layouts.close(layout, "a"), "b")).toEqual(EMPTY);
    expect(layouts.close(layout, "x")).toBe(layout);
  });

  it("gives panes without a cell tabs of their own", () => {
    const { layout, newId } = build("a");
    let grid = layouts.setGrid(layout, "t1", 4, newId);
    for (const name of ["b", "c"]) grid = layouts.open(grid, pane(name), "cell", newId);
    expect(draw(grid)).toBe(">4ab*c");
    expect(draw(layouts.setGrid(grid, "t1", 1, newId))).toBe(">1*a 1*b 1*c");
  });

  it("moves tabs and panes", () => {
    const { layout, newId } = build("a", "b", "c");
    expect(draw(layouts.moveTab(layout, "t3", 0))).toBe(">1*c 1*a 1*b");
    expect(draw(layouts.moveTab(layout, "t1", 99))).toBe("1*b >1*c 1*a");
    expect(draw(layouts.moveTab(layout, "t1", -1))).toBe("1*a 1*b >1*c");
    expect(draw(layouts.swap(layout, "a", "c"))).toBe("1*c 1*b >1*a");
    expect(layouts.movePane(layout, "a", "t2")).toBe(layout);
    const grid = layouts.setGrid(layout, "t2", 2, newId);
    expect(draw(layouts.movePane(grid, "a", "t2"))).toBe(">2b*a 1*c");
  });

  it("goes around", () => {
    const { layout } = build("a", "b", "c");
    expect(draw(layouts.step(layout, 1))).toBe(">1*a 1*b 1*c");
    expect(draw(layouts.step(layout, -1))).toBe("1*a >1*b 1*c");
    expect(draw(layouts.step(EMPTY, 1))).toBe("");
  });

  it("moves the keyboard between panes", () => {
    const { layout, newId } = build("a");
    const grid = layouts.open(layouts.setGrid(layout, "t1", 2, newId), pane("b"), "cell", newId);
    expect(draw(layouts.stepPane(grid, 1))).toBe(">2*ab");
    expect(layouts.focusedPane(layouts.stepPane(grid, -1))?.id).toBe("a");
  });
});

describe("what is kept", () => {
  it("comes back", () => {
    const { layout, newId } = build("a", "b");
    const grid = layouts.open(
      layouts.setGrid(layout, "t2", 6, newId),
      { ...pane("c"), create: true },
      "cell",
      newId,
    );
    expect(parse(serialize(grid))).toEqual(grid);
  });

  it.each([
    null,
    "",
    "[]",
    "{}",
    '{"version":2,"tabs":[]}',
    '{"version":1,"tabs":{}}',
    '{"version":1,"tabs":[null,1,{"id":"x","panes":[]},{"id":"y","panes":[{"id":"p"}]}]}',
  ])("is nothing when it is %j", (text) => expect(parse(text)).toEqual(EMPTY));

  it("loses what cannot be: too many panes, the same id twice, a foreign grid", () => {
    const twice = { id: "t", grid: 3, focused: "zzz", panes: [pane("a"), pane("a"), pane("b")] };
    const text = JSON.stringify({ version: 1, active: "nowhere", tabs: [twice, twice] });
    expect(draw(parse(text))).toBe(">1*a");
  });
});
