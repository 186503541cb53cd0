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
    expect(names({ features: ALL, mode: "serve", role: "admin" })).toEqual(everything);
    expect(names({ features: ALL, mode: "serve", role: null })).toEqual(everything);
    expect(names({ features: ALL, mode: "serve", role: "operator" })).toEqual(some);
    expect(names({ features: ALL, mode: "serve", role: "viewer" })).toEqual(some);
  });

  it("has what the server can do", () => {
    expect(names({ features: [], mode: "serve", role: "admin" })).toEqual(["terminal", "logins", "settings"]);
    expect(names({ features: ["files", "logs"], mode: "serve", role: "admin" })).toEqual([
      "terminal",
      "logs",
      "files",
      "logins",
      "settings",
    ]);
  });

  it("has what makes sense in front of another endpoint", () => {
    const me = { features: ["audit", "keys"], mode: "web", role: "admin" } as const;
    expect(names(me)).toEqual(["terminal", "users", "logins", "audit", "settings"]);
    expect(resolve([], me)).toEqual({ kind: "view", name: "terminal" });
    expect(resolve(["keys"], me)).toEqual({ kind: "missing" });
  });
});

describe("an address", () => {
  const me = { features: ALL, mode: "serve", role: "viewer" } as const;
  it("shows its view", () => {
    for (const view of VIEWS)
      expect(resolve([view.name, "more"], me)).toEqual({ kind: "view", name: view.name });
    expect(resolve(["share"], me)).toEqual({ kind: "share" });
  });

  it("shows the first view when it names none", () => {
    for (const path of [[], ["login"]]) expect(resolve(path, me)).toEqual({ kind: "view", name: "sessions" });
    expect(resolve([], { features: [], mode: "serve", role: null })).toEqual({
      kind: "view",
      name: "terminal",
    });
  });

  it("shows nothing that is not there", () => {
    for (const path of [["unheard-of"], ["Sessions"], ["__proto__"], ["constructor"]]) {
      expect(resolve(path, me), path.join()).toEqual({ kind: "missing" });
    }
    expect(resolve(["keys"], { features: ["sessions"], mode: "serve", role: "admin" })).toEqual({
      kind: "missing",
    });
  });
});

it("gives buttons by role", () => {
  expect(abilities("admin")).toEqual({ operate: true, administer: true });
  expect(abilities("operator")).toEqual({ operate: true, administer: false });
  expect(abilities("viewer")).toEqual({ operate: false, administer: false });
  expect(abilities(null)).toEqual({ operate: true, administer: true });
});
