/**
 * Which view the page shows: the part of the path below /console, and its query. Links are ordinary links;
 * clicks on them are taken here, so that the page stays.
 */
import { signal } from "@preact/signals";

/** Where the server serves the page. */
export const BASE = "/console";

/** A view and what it is about. */
export interface Route {
  /** Segments of the path below {@link BASE}, decoded. */
  readonly path: readonly string[];
  readonly query: URLSearchParams;
}

/** Reads a route from an address; segments that cannot be decoded stay as they are. */
export function parseRoute(pathname: string, search: string): Route {
  const rest = pathname.startsWith(BASE) ? pathname.slice(BASE.length) : pathname;
  const path = rest
    .split("/")
    .filter((segment) => segment !== "")
    .map(decodeSegment);
  return { path, query: new URLSearchParams(search) };
}

/** The address of a view: segments are encoded, `query` values that are undefined are left out. */
export function href(path: readonly string[], query: Record<string, string | undefined> = {}): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined) params.set(name, value);
  }
  const search = params.size > 0 ? `?${params}` : "";
  return [BASE, ...path.map(encodeURIComponent)].join("/") + search;
}

/** The view that is shown. */
export const route = signal<Route>(parseRoute(location.pathname, location.search));

/** Shows the view of an address of this page. */
export function navigate(to: string, replace = false): void {
  if (replace) history.replaceState(null, "", to);
  else history.pushState(null, "", to);
  route.value = parseRoute(location.pathname, location.search);
}

/** Takes clicks on links to other views, and the browser's back and forward. Returns how to stop. */
export function startRouter(): () => void {
  const onPopState = () => {
    route.value = parseRoute(location.pathname, location.search);
  };
  const onClick = (event: MouseEvent) => {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element | null)?.closest("a");
    if (link?.target !== "" || link.hasAttribute("download")) return;
    const url = new URL(link.href, location.href);
    const isView = url.pathname === BASE || url.pathname.startsWith(`${BASE}/`);
    if (url.origin !== location.origin || !isView) return;
    event.preventDefault();
    navigate(url.pathname + url.search);
  };
  addEventListener("popstate", onPopState);
  document.addEventListener("click", onClick);
  return () => {
    removeEventListener("popstate", onPopState);
    document.removeEventListener("click", onClick);
  };
}

function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}
