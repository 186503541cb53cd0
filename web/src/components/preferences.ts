/** What a person chose for this browser: colors, the font of terminals and what draws them. Kept in localStorage. */
import { computed, effect, type ReadonlySignal, signal } from "@preact/signals";

/** Colors of the page: as the system has them, or always the same. */
export type Theme = "system" | "dark" | "light";

/** What draws terminals: the graphics card where there is one, always WebGL, or always the page's elements. */
export type Renderer = "auto" | "webgl" | "elements";

/** Smallest and largest size of a terminal's font, in pixels; beyond them nothing is legible or fits. */
export const FONT_SIZE = { min: 8, max: 32, usual: 14 } as const;

const THEME_KEY = "clamshell.theme";
const RENDERER_KEY = "clamshell.renderer";
const FONT_SIZE_KEY = "clamshell.font-size";

/** The chosen colors. */
export const theme = signal<Theme>(parseTheme(recall(THEME_KEY)));

/** Size of the font of new terminals and of recordings, in pixels. */
export const terminalFontSize = signal<number>(parseFontSize(recall(FONT_SIZE_KEY)));

/** What draws terminals that are opened from now on. */
export const renderer = signal<Renderer>(parseRenderer(recall(RENDERER_KEY)));

const systemIsDark = signal(matchMedia("(prefers-color-scheme: dark)").matches);

/** The colors that are shown, whoever chose them; terminals follow it. */
export const colors: ReadonlySignal<"dark" | "light"> = computed(() => {
  if (theme.value !== "system") return theme.value;
  return systemIsDark.value ? "dark" : "light";
});

/** Reads a choice of colors; anything else is the system's. */
export function parseTheme(text: string | null): Theme {
  return text === "dark" || text === "light" ? text : "system";
}

/** Reads what draws terminals; anything else is up to the page. */
export function parseRenderer(text: string | null): Renderer {
  return text === "webgl" || text === "elements" ? text : "auto";
}

/** Reads a size; what is no size or out of bounds is the usual one. */
export function parseFontSize(text: string | null): number {
  const size = Number(text);
  return Number.isInteger(size) && size >= FONT_SIZE.min && size <= FONT_SIZE.max ? size : FONT_SIZE.usual;
}

/** Shows the choices and keeps them from now on. Returns how to stop. */
export function startPreferences(): () => void {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const onChange = () => {
    systemIsDark.value = system.matches;
  };
  system.addEventListener("change", onChange);
  const stopTheme = effect(() => {
    keep(THEME_KEY, theme.value);
    if (theme.value === "system") document.documentElement.removeAttribute("data-theme");
    else document.documentElement.setAttribute("data-theme", theme.value);
  });
  const stopFont = effect(() => keep(FONT_SIZE_KEY, String(terminalFontSize.value)));
  const stopRenderer = effect(() => keep(RENDERER_KEY, renderer.value));
  return () => {
    system.removeEventListener("change", onChange);
    stopTheme();
    stopFont();
    stopRenderer();
  };
}

/** Reads a value of localStorage; none where the browser forbids it. */
export function recall(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/** Keeps a value in localStorage, where the browser allows it. */
export function keep(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // A private window without storage: the choice lasts as long as the page.
  }
}
