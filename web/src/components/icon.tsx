/** Small drawings beside words; screen readers pass them by. */

const PATHS = {
  menu: "M2 4h12M2 8h12M2 12h12",
  terminal: "M2 3h12v10H2zM4.5 6l2 2-2 2M8.5 10h3",
  session: "M8 2l6 3.2v5.6L8 14l-6-3.2V5.2zM2 5.2l6 3.2 6-3.2M8 8.4V14",
  runtime: "M3 3h4v4H3zM9 3h4v4H9zM3 9h4v4H3zM9 11h4M11 9v4",
  recording: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM6.5 5.5v5l4-2.5z",
  log: "M3 2.5h10v11H3zM5.5 6h5M5.5 8.5h5M5.5 11h3",
  folder: "M2 4h4l1.5 1.5H14V13H2z",
  file: "M4 2h5l3 3v9H4zM9 2v3h3",
  link: "M6 10l4-4M7 4.5L8.5 3a3 3 0 0 1 4.5 4.5L11.5 9M9 11.5L7.5 13A3 3 0 0 1 3 8.5L4.5 7",
  key: "M10 2.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7zM7.5 8.5L2.5 13.5M4 12l1.5 1.5",
  users:
    "M6 7.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM1.5 13.5c0-2.5 2-4 4.5-4s4.5 1.5 4.5 4M11 3a2.5 2.5 0 0 1 0 4.5M12 9.8c1.5.5 2.5 1.7 2.5 3.7",
  login: "M9 2.5h4.5v11H9M2 8h8M7.5 5.5L10 8l-2.5 2.5",
  audit: "M8 1.8l5.5 2v4c0 3.2-2.2 5.4-5.5 6.4-3.3-1-5.5-3.2-5.5-6.4v-4zM5.5 8l2 2 3-3.5",
  doctor: "M1.5 8.5h3l2-5 3 9 2-4h3",
  settings: "M2 4.5h6M11 4.5h3M9.5 3v3M2 11.5h3M8 11.5h6M6.5 10v3",
  sun: "M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M3 13l1-1M12 4l1-1",
  moon: "M13.5 9.5A6 6 0 0 1 6.5 2.5a6 6 0 1 0 7 7z",
  system: "M2 3h12v8H2zM6 14h4M8 11v3",
  stop: "M4 4h8v8H4z",
  trash: "M3 4.5h10M6.5 4.5V2.5h3v2M4.5 4.5l.5 9h6l.5-9M6.8 7v4M9.2 7v4",
  play: "M5 3v10l8-5z",
  download: "M8 2v8M4.5 7L8 10.5 11.5 7M3 13.5h10",
  close: "M4 4l8 8M12 4l-8 8",
  eye: "M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8zM8 6.200a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.600z",
  out: "M7 2.5H2.5v11H7M6 8h8M11.5 5.5L14 8l-2.5 2.5",
} as const;

/** Name of a drawing. */
export type IconName = keyof typeof PATHS;

/** A drawing of 16 by 16 pixels in the color of the text. */
export function Icon(props: { readonly name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
      <path d={PATHS[props.name]} />
    </svg>
  );
}
