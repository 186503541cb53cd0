/** The one-time link that this page was opened with. Its secret leaves the address before anything else happens. */
import { signal } from "@preact/signals";
import { BASE } from "../router";
import { API, call } from "./client";

/** The secret, until it is used or left; in memory alone, so that a reload forgets it. */
export const link = signal<string | null>(null);

/** Takes the secret out of `#link=SECRET` of an address; null when there is none. */
export function linkToken(hash: string): string | null {
  const token = new URLSearchParams(hash.startsWith("#") ? hash.slice(1) : hash).get("link");
  return token === null || token === "" ? null : token;
}

/** Takes the secret out of the address: it has no business in the history or on a screenshot. */
export function takeLink(): void {
  if (location.pathname !== `${BASE}/login`) return;
  const token = linkToken(location.hash);
  if (token === null) return;
  history.replaceState(null, "", location.pathname);
  link.value = token;
}

/** Takes the secret of a link that is opened where the page is already. Returns how to stop. */
export function startLinks(): () => void {
  addEventListener("hashchange", takeLink);
  return () => removeEventListener("hashchange", takeLink);
}

/** Whom a link signs in. It stays good. */
export async function linkUser(token: string): Promise<string> {
  return (await call<{ readonly userName: string }>("POST", `${API}/console/link`, { link: token })).userName;
}
