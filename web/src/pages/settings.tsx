/** Being built. */
import type { SignedIn } from "../api/me";

export default function Page(_props: { readonly me: SignedIn }) {
  return <h1>settings</h1>;
}
