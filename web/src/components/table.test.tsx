import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, describe, expect, it, vi } from "vitest";
import { type Column, matches, TableView } from "./table";

interface Tree {
  readonly name: string;
  readonly meters: number | undefined;
}

const TREES: readonly Tree[] = [
  { name: "oak", meters: 30 },
  { name: "birch", meters: undefined },
  { name: "yew", meters: 4 },
];

const COLUMNS: readonly Column<Tree>[] = [
  { label: "Tree", head: true, sortBy: (tree) => tree.name, cell: (tree) => tree.name },
  { label: "Height", look: "num", sortBy: (tree) => tree.meters, cell: (tree) => tree.meters ?? "–" },
];

/** Shows the trees, or what stands in their place. */
async function show(more: Partial<Parameters<typeof TableView<Tree>>[0]> = {}): Promise<void> {
  await act(() =>
    render(
      <TableView of={TREES} noun="tree" keyOf={(tree) => tree.name} columns={COLUMNS} {...more} />,
      document.body,
    ),
  );
}

const texts = (selector: string) => [...document.querySelectorAll(selector)].map((one) => one.textContent);
const names = () => texts("tbody th[scope=row]");
const sortedBy = () =>
  [...document.querySelectorAll("thead th[aria-sort]")].map(
    (head) => `${head.textContent} ${head.getAttribute("aria-sort")}`,
  );

async function click(selector: string): Promise<void> {
  await act(() => document.querySelector<HTMLElement>(selector)?.click());
}

async function put(selector: string, value: string, event: string): Promise<void> {
  const control = document.querySelector<HTMLInputElement>(selector);
  await act(() => {
    if (control !== null) control.value = value;
    control?.dispatchEvent(new Event(event, { bubbles: true }));
  });
}

afterEach(() => act(() => render(null, document.body)));

describe("a table", () => {
  it("has heads, and cells that say their columns", async () => {
    await show({ actions: (tree) => <button type="button">Fell {tree.name}</button> });
    expect(texts("thead th[scope=col]")).toEqual(["Tree", "Height", "Actions"]);
    expect(names()).toEqual(["oak", "birch", "yew"]);
    expect(texts("td[data-label=Height].num")).toEqual(["30", "–", "4"]);
    expect(texts("td.actions")).toEqual(["Fell oak", "Fell birch", "Fell yew"]);
  });

  it("is sorted by a click on a head, both ways, and says so", async () => {
    await show({ sortedBy: "Tree" });
    expect([names(), sortedBy()]).toEqual([["birch", "oak", "yew"], ["Tree ascending"]]);
    await click("thead th.num button");
    expect([names(), sortedBy()]).toEqual([["yew", "oak", "birch"], ["Height ascending"]]);
    await click("thead th.num button");
    expect([names(), sortedBy()]).toEqual([["oak", "yew", "birch"], ["Height descending"]]);
  });

  it("is narrowed by a text and a choice, and says how far", async () => {
    await show({
      filter: {
        hint: "Filter by name",
        choice: {
          label: "Measured",
          options: [
            ["", "All"],
            ["yes", "Measured"],
          ],
        },
        narrow: (all, text, choice) =>
          all.filter((tree) => matches(text, [tree.name]) && (choice === "" || tree.meters !== undefined)),
      },
    });
    expect(texts("[role=status]")).toEqual(["3 trees"]);
    await put("input[aria-label='Filter trees']", " O", "input");
    expect([names(), texts("[role=status]")]).toEqual([["oak"], ["1 of 3 trees"]]);
    await put("input[aria-label='Filter trees']", "c", "input");
    await put("select[aria-label=Measured]", "yes", "change");
    expect([names(), texts("[role=status]"), texts("p")]).toEqual([
      [],
      ["0 of 3 trees"],
      ["No tree fits the filter."],
    ]);
  });

  it("is on its way, fails, is asked for again, or is empty", async () => {
    await show({ of: null });
    expect(texts("[role=status]")).toEqual(["Loading…"]);
    const onRetry = vi.fn();
    await show({ of: undefined, failure: "The server is gone", onRetry });
    expect(texts("[role=alert] p")).toEqual(["The server is gone"]);
    await click("[role=alert] button");
    expect(onRetry).toHaveBeenCalledOnce();
    await show({ of: TREES, failure: "The server is gone" });
    expect([texts("[role=alert] p"), names().length]).toEqual([["The server is gone"], 3]);
    await show({ of: [], empty: <h2>No trees yet</h2> });
    expect([texts("h2"), texts("table")]).toEqual([["No trees yet"], []]);
  });
});
