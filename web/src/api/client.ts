/**
 * Calls of the server. The login cookie goes along by itself; the header that no other site can send says that
 * the call comes from this page.
 */

/** Where the extension API is. */
export const API = "/clamshell/v1";

/** A value of a call that breaks a rule. */
export interface FieldError {
  /** Path of the member, such as `networkConfiguration.networkMode`. */
  readonly name: string;
  readonly message: string;
}

/** An answer that is not what was asked for. */
export class ApiError extends Error {
  constructor(
    /** HTTP status; 0 when no answer came. */
    readonly status: number,
    /** Name of AWS's error, such as `AccessDeniedException`. */
    readonly code: string,
    message: string,
    /** Seconds to wait, if the server said so. */
    readonly retryAfter?: number,
    /** Id of the request, which the server's log has as well. */
    readonly requestId?: string,
    /** Which values break which rules, if the server said so. */
    readonly fields: readonly FieldError[] = [],
  ) {
    super(message);
    this.name = "ApiError";
  }
}

/** A query, `?` included. A space is `%20`: the `+` of forms is a plus to the server, as it is to AWS. */
export function queryOf(values: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(values).map(
    ([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`,
  );
  return pairs.length === 0 ? "" : `?${pairs.join("&")}`;
}

/** Told of each answer that refuses the caller: the login may have ended. */
let refused: () => void = () => undefined;

/** Sets who is told when the server refuses the caller. */
export function onRefusal(listener: () => void): void {
  refused = listener;
}

/** Sends a call and gives the answer when its status is 2xx. */
export async function send(method: string, path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  headers.set("X-Clamshell-Console", "1");
  let response: Response;
  try {
    response = await fetch(path, { ...init, method, headers, credentials: "same-origin", redirect: "error" });
  } catch (cause) {
    if (cause instanceof DOMException && cause.name === "AbortError") throw cause;
    throw new ApiError(0, "Unreachable", "The server cannot be reached");
  }
  if (response.ok) return response;
  if (response.status === 401 || response.status === 403) refused();
  throw await toError(response);
}

/** Sends JSON, if any, and gives the JSON of the answer; `undefined` for an empty one. */
export async function call<T>(
  method: string,
  path: string,
  body?: unknown,
  signal?: AbortSignal,
): Promise<T> {
  const init: RequestInit = {};
  if (signal) init.signal = signal;
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { "Content-Type": "application/json" };
  }
  const response = await send(method, path, init);
  const text = await response.text();
  return (text === "" ? undefined : JSON.parse(text)) as T;
}

async function toError(response: Response): Promise<ApiError> {
  const code = response.headers.get("x-amzn-ErrorType")?.split(":")[0] ?? `Status${response.status}`;
  const wait = Number(response.headers.get("Retry-After"));
  const retryAfter = Number.isFinite(wait) && wait > 0 ? wait : undefined;
  const requestId = response.headers.get("x-amzn-RequestId") ?? undefined;
  let message = response.statusText;
  let fields: readonly FieldError[] = [];
  try {
    const body = (await response.json()) as { message?: unknown; Message?: unknown; fieldList?: unknown };
    fields = fieldErrors(body.fieldList);
    const said = body.message ?? body.Message;
    if (typeof said === "string" && said !== "") message = said;
  } catch {
    // Not JSON: the status says enough.
  }
  const text = message || `Status ${response.status}`;
  return new ApiError(response.status, code, text, retryAfter, requestId, fields);
}

function fieldErrors(list: unknown): readonly FieldError[] {
  if (!Array.isArray(list)) return [];
  return (list as Partial<FieldError>[]).flatMap(({ name, message }) =>
    typeof name === "string" && typeof message === "string" ? [{ name, message }] : [],
  );
}
