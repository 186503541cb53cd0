/** The terminal view. */
import type { JSX } from "preact";
import type { Me } from "../api/types";

/** All terminals of a person, or the one of a share link. */
export function TerminalView(_props: {
  readonly me: Extract<Me, { signedIn: true }> | null;
  readonly share?: string;
}): JSX.Element {
  return <p class="loading">The terminal is being built.</p>;
}

export default TerminalView;
