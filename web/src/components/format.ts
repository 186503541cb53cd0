/** Numbers and times in words: short, and the same everywhere. */

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** What stands where nothing is known. */
export const NOTHING = "–";

/** A length of time by its two largest units: `3d 4h`, `2h 05m`, `4m 09s`, `12s`. */
export function duration(ms: number): string {
  if (!Number.isFinite(ms)) return NOTHING;
  const whole = Math.max(0, Math.floor(ms / SECOND)) * SECOND;
  const two = (value: number) => String(Math.floor(value)).padStart(2, "0");
  if (whole >= DAY) return `${Math.floor(whole / DAY)}d ${Math.floor((whole % DAY) / HOUR)}h`;
  if (whole >= HOUR) return `${Math.floor(whole / HOUR)}h ${two((whole % HOUR) / MINUTE)}m`;
  if (whole >= MINUTE) return `${Math.floor(whole / MINUTE)}m ${two((whole % MINUTE) / SECOND)}s`;
  return `${whole / SECOND}s`;
}

/** Time left, rounded up, so that it shows `1s` until it is over. */
export function countdown(ms: number): string {
  return duration(Math.ceil(Math.max(0, ms) / SECOND) * SECOND);
}

/** Time left until an RFC 3339 time; {@link NOTHING} without one. */
export function until(time: string | undefined, now: number): string {
  const at = parseTime(time);
  return at === null ? NOTHING : countdown(at - now);
}

/** Time since an RFC 3339 time; {@link NOTHING} without one. */
export function since(time: string | undefined, now: number): string {
  const at = parseTime(time);
  return at === null ? NOTHING : duration(now - at);
}

/** Milliseconds since 1970 of a time of the API: RFC 3339 text, or seconds as AWS's planes may have them. */
export function parseTime(time: string | number | undefined): number | null {
  if (time === undefined) return null;
  const ms = typeof time === "number" ? time * 1000 : Date.parse(time);
  return Number.isNaN(ms) ? null : ms;
}

/** A time of the API as this browser's clock has it; {@link NOTHING} without one. */
export function when(time: string | number | undefined): string {
  const ms = parseTime(time);
  if (ms === null) return NOTHING;
  const date = new Date(ms);
  const two = (value: number) => String(value).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** A number of bytes with a unit of 1024: `0 B`, `1.5 KiB`, `20 MiB`. */
export function bytes(count: number | undefined): string {
  if (count === undefined || !Number.isFinite(count) || count < 0) return NOTHING;
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let value = count;
  let unit = 0;
  // 1023.95 would be shown as 1024.0 of the smaller unit.
  while (value >= 1023.95 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : 1;
  return `${value.toFixed(digits).replace(/\.0$/, "")} ${units[unit]}`;
}

/** A share as a percentage: `0 %`, `3.4 %`, `98 %`. */
export function percent(share: number | undefined): string {
  if (share === undefined || !Number.isFinite(share)) return NOTHING;
  const value = share * 100;
  return `${value >= 9.95 || value < 0.05 ? value.toFixed(0) : value.toFixed(1)} %`;
}

/** A number and its noun: `1 session`, `3 sessions`. */
export function count(number: number, noun: string): string {
  return `${number.toLocaleString("en-US")} ${noun}${number === 1 ? "" : "s"}`;
}
