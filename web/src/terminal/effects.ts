/** What goes into a terminal's connection and what comes out: its states, wishes and effects. */

/** What a person is told. */
export type State =
  | { readonly name: "connecting" }
  | { readonly name: "live" }
  | { readonly name: "reconnecting"; readonly attempt: number; readonly retryAt: number | undefined }
  | { readonly name: "ended"; readonly code: number | undefined; readonly reason: string }
  | { readonly name: "takenOver" }
  | { readonly name: "failed"; readonly reason: string };

/** What to ask the server for. */
export interface Wish {
  readonly from: string;
  readonly access: "write" | "watch";
  readonly create: boolean;
  readonly takeover: boolean;
  readonly window: number;
  /** The terminal answers what programs ask only while it is told to. */
  readonly answers: "told";
  /** Name under which a server that counts input counts this terminal's; `undefined` for whoever types nothing. */
  readonly writer?: string | undefined;
}

/** What the caller does. */
export type Effect =
  | { readonly type: "connect"; readonly id: number; readonly wish: Wish }
  | { readonly type: "send"; readonly id: number; readonly bytes: Uint8Array }
  | { readonly type: "close"; readonly id: number }
  /** A handshake failed, and browsers do not say why: ask for the shell. */
  | { readonly type: "probe"; readonly id: number }
  /** Show bytes; `replay` when they are old. `offset` is that of the log after them, none for a painted screen. */
  | {
      readonly type: "output";
      readonly id: number;
      readonly bytes: Uint8Array;
      readonly replay: boolean;
      readonly offset: number | undefined;
    }
  /** Whether the terminal answers what programs ask, from what comes next on. */
  | { readonly type: "answers"; readonly answers: boolean }
  /** Forget what is shown: the screen comes anew. */
  | { readonly type: "reset" }
  /** The terminal has this size, whatever the room for it. */
  | { readonly type: "size"; readonly cols: number; readonly rows: number }
  /** The terminal takes the size of its room again. */
  | { readonly type: "fit" }
  /** Bytes of the log are gone. */
  | { readonly type: "gap"; readonly bytes: number }
  /** A line for the person at the terminal. */
  | { readonly type: "notice"; readonly text: string }
  | { readonly type: "state"; readonly state: State };

/** What the server says about a shell after a failed handshake. */
export type Probe =
  | { readonly kind: "running"; readonly endOffset: number }
  | { readonly kind: "ended"; readonly code: number | undefined; readonly reason: string }
  | { readonly kind: "gone" }
  | { readonly kind: "refused"; readonly message: string }
  | { readonly kind: "unreachable" };

/** About the shell. */
export interface Options {
  readonly access: "write" | "watch";
  /** Start the shell when it does not run; only until it was there once. */
  readonly create: boolean;
  /** Send away other writers. */
  readonly takeover?: boolean;
  /** A number from 0 to 1. */
  readonly random: () => number;
  /** Name of this terminal among all that type into the shell, for servers that count what each has typed. */
  readonly writer?: string;
}

/** A state in words. */
export function describeState(state: State): string {
  switch (state.name) {
    case "connecting":
      return "Connecting";
    case "live":
      return "Live";
    case "reconnecting":
      return `Reconnecting (${state.attempt})`;
    case "ended":
      if (state.code === undefined) return `Ended: ${state.reason}`;
      return `Ended with exit code ${state.code}${state.reason ? ` (${state.reason})` : ""}`;
    case "takenOver":
      return "Taken over by another window";
    case "failed":
      return `Failed: ${state.reason}`;
  }
}
