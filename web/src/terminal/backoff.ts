/** When a terminal connects again, and after how long. The numbers are those of the command line's client. */

/** What the code of a close frame asks of a client. */
export type CloseMeaning =
  /** The connection is lost, the shell is not: connect again. */
  | "lost"
  /** Normal end. */
  | "ended"
  /** Another client took the shell over: connecting again would start a fight. */
  | "replaced"
  /** The server refused what this client sends: sending it again changes nothing. */
  | "refused";

/** The meaning of a close code. A code that nobody knows yet is tried again: retries are bounded. */
export function closeMeaning(code: number): CloseMeaning {
  switch (code) {
    case 1000:
      return "ended";
    case 4000:
      return "replaced";
    // 1009 says that a frame was too long. None of ours is, so it would come again.
    case 1002:
    case 1003:
    case 1007:
    case 1009:
    case 1010:
      return "refused";
    // Among them 1001 server restart, 1006 network, 1008 age or rate, 1011 server error.
    default:
      return "lost";
  }
}

const DELAY_BASE_MS = 1000;
const DELAY_MAX_MS = 15_000;

/** Attempts of a terminal that was never there: somebody waits, and a wrong name stays wrong. */
export const FIRST_ATTEMPTS_MAX = 5;

/** Attempts of one that was: about a night of a closed laptop. After that a person asks again. */
export const ATTEMPTS_MAX = 4000;

/** The delay before an attempt, counted from 1: half of it fixed, half random. `random` is from 0 to 1. */
export function backoffMs(attempt: number, random: number): number {
  const whole = Math.min(DELAY_MAX_MS, DELAY_BASE_MS * 2 ** Math.min(attempt - 1, 10));
  return Math.round(whole / 2 + (whole / 2) * random);
}
