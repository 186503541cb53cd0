/** The frame of the page: who is signed in, the menu, and the view that the address names. */
import { useEffect } from "preact/hooks";
import { startRouter } from "./router";

export function App() {
  useEffect(startRouter, []);
  return <main>Clamshell</main>;
}
