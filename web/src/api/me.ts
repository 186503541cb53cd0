/** Who is signed in, and the ways in and out. */
import { signal } from "@preact/signals";
import { API, ApiError, call, onRefusal } from "./client";
import type { Me } from "./types";

/** A person who is signed in. */
export type SignedIn = Extract<Me, { signedIn: true }>;

/** Who is here; null until the server has said so. */
export const me = signal<Me | null>(null);

/** The first answer, asked for before there is anything to show. */
let early: Promise<Me> | undefined;

/** Asks the server who is here, for whoever calls {@link loadMe} first. */
export function loadEarly(): void {
  early = call<Me>("GET", `${API}/console/me`);
  // Whoever loads it is told.
  early.catch(() => undefined);
}

/** Asks the server who is here. */
export async function loadMe(): Promise<Me> {
  const asked = early ?? call<Me>("GET", `${API}/console/me`);
  early = undefined;
  const answer = await asked;
  me.value = answer;
  return answer;
}

/** Signs in by a one-time link's secret, or by name and password. */
export async function login(
  proof: { readonly link: string } | { readonly userName: string; readonly password: string },
): Promise<void> {
  const answer = await call<Me | undefined>("POST", `${API}/console/login`, proof);
  if (answer?.signedIn) me.value = answer;
  else await loadMe();
}

/** Signs out here; the server closes this login's terminals and streams. */
export async function logout(): Promise<void> {
  try {
    await call("POST", `${API}/console/logout`);
  } catch (cause) {
    // A login that has already ended is no failure.
    if (!(cause instanceof ApiError) || cause.status === 0 || cause.status >= 500) throw cause;
  }
  await loadMe();
}

/** A page full of refused calls asks once. */
const ASK_AGAIN_MS = 3000;
let askedAt = Number.NEGATIVE_INFINITY;

onRefusal(() => {
  const now = performance.now();
  if (me.value?.signedIn !== true || now - askedAt < ASK_AGAIN_MS) return;
  askedAt = now;
  void noticeRefusal();
});

/**
 * Called when the server refused a call for want of a login: shows the login page if that is so. A call that is
 * merely not allowed leaves the page as it is.
 */
export async function noticeRefusal(): Promise<void> {
  try {
    await loadMe();
  } catch {
    // Not reachable: whoever asked says so.
  }
}
