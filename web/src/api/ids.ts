/** Ids that nobody guesses. */

/** 22 characters of base64url: 128 random bits. Works also where `randomUUID` does not, on plain HTTP. */
export function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");
}
