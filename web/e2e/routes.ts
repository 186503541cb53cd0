/** Every call that changes something, read from the server's own tables. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { REPOSITORY } from "./lacking";

/** A call, with `{...}` where a name stands. */
export interface Route {
  readonly method: string;
  readonly path: string;
}

/** Calls of the extension API and of both AWS planes that are no GET. */
export function writes(): readonly Route[] {
  const routes = [...extension(), ...modeled("control"), ...modeled("data")];
  return routes.filter((route) => route.method !== "GET");
}

function source(path: string): string {
  return readFileSync(join(REPOSITORY, "crates", path), "utf8");
}

function extension(): Route[] {
  const table = /^routes! \{\n(.*?)^\}/ms.exec(source("clamshell-server/src/http/extension/route.rs"))?.[1];
  const rows = [...(table ?? "").matchAll(/^ *\w+ "([A-Z]+)" "([^"]+)",$/gm)];
  return rows.map(([, method = "", path]) => ({ method, path: `/clamshell/v1${path}` }));
}

function modeled(plane: "control" | "data"): Route[] {
  const rows = source(`clamshell-wire/src/generated/${plane}.rs`).matchAll(
    /ModeledOperation \{ name: "\w+", [^}]*?method: "([A-Z]+)", uri: "([^"]+)"/g,
  );
  return [...rows].map(([, method = "", path = ""]) => ({ method, path }));
}
