import { describe, expect, it } from "vitest";
import { abilities, menu, resolve, VIEWS } from "./views";

const ALL = [
  "sessions",
  "runtimes",
  "files",
  "audit",
  "keys",
  "doctor",
  "shares",
  "recordings",
  "logs",
] as const;
const names = (me: Parameters<typeof menu>[0]) => menu(me).map((view) => view.name);

describe("the menu", () => {
  it("has what the role may use", () => {
    const everything = VIEWS.map((view) => view.name);
    const some = everything.filter((name) => !["keys", "users", "audit"].includes(name));
    expect(names({ features: ALL, role: "admin" })).toEqual(everything);
    expect(names({ features: ALL, role: null })).toEqual(everything);
    expect(names({ features: ALL, role: "operator" })).toEqual(some);
    expect(names({ features: ALL, role: "viewer" })).toEqual(some);
  });

  it("has what the server can do", () => {
    expect(names({ features: [], role: "admin" })).toEqual(["terminal", "settings"]);
    expect(names({ features: ["files", "logs"], role: "admin" })).toEqual([
      "terminal",
      "logs",
      "files",
      "settings",
    ]);
  });
});

describe("an address", () => {
  const me = { features: ALL, role: "viewer" } as const;
  it("shows its view", () => {
    for (const view of VIEWS)
      expect(resolve([view.name, "more"], me)).toEqual({ kind: "view", name: view.name });
    expect(resolve(["share"], me)).toEqual({ kind: "share" });
  });

  it("shows the first view when it names none", () => {
    for (const path of [[], ["login"]]) expect(resolve(path, me)).toEqual({ kind: "view", name: "sessions" });
    expect(resolve([], { features: [], role: null })).toEqual({ kind: "view", name: "terminal" });
  });

  it("shows nothing that is not there", () => {
    for (const path of [["unheard-of"], ["Sessions"], ["__proto__"], ["constructor"]]) {
      expect(resolve(path, me), path.join()).toEqual({ kind: "missing" });
    }
    expect(resolve(["keys"], { features: ["sessions"], role: "admin" })).toEqual({ kind: "missing" });
  });
});

it("gives buttons by role", () => {
  expect(abilities("admin")).toEqual({ operate: true, administer: true });
  expect(abilities("operator")).toEqual({ operate: true, administer: false });
  expect(abilities("viewer")).toEqual({ operate: false, administer: false });
  expect(abilities(null)).toEqual({ operate: true, administer: true });
});
