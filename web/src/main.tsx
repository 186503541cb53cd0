/** Starts the page. */
import { options, render } from "preact";
import { takeLink } from "./api/link";
import { loadEarly } from "./api/me";
import { App } from "./app";
import { route } from "./router";
import "./style.css";

// Effects fetch and connect: waiting for a frame each time, as is usual, is felt when a terminal opens.
options.requestAnimationFrame = (effects) => queueMicrotask(effects);

// First, so that the address of a page that does not come any further has no secret either.
takeLink();

// What a terminal needs is fetched while the server is asked who is here.
const [view] = route.value.path;
if (view === "terminal" || view === "share") void import("./terminal/index").catch(() => undefined);
if (view !== "share") loadEarly();

const root = document.getElementById("app");
if (root) render(<App />, root);
