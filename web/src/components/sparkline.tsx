/** A small curve of the last minutes. */

/** Points of a curve in a box of `width` by `height`; empty when there are fewer than two. */
export function points(
  values: readonly (number | undefined)[],
  width: number,
  height: number,
  most: number,
): string {
  const top = Math.max(most, ...values.map((value) => value ?? 0), Number.MIN_VALUE);
  const step = width / Math.max(1, values.length - 1);
  const found: string[] = [];
  values.forEach((value, index) => {
    if (value === undefined) return;
    const y = height - (Math.max(0, value) / top) * height;
    found.push(`${(index * step).toFixed(1)},${y.toFixed(1)}`);
  });
  return found.length < 2 ? "" : found.join(" ");
}

/** Draws it; `most` is what reaches the top at least. */
export function Sparkline(props: {
  readonly values: readonly (number | undefined)[];
  readonly most: number;
  readonly label: string;
}) {
  return (
    <svg class="spark" viewBox="-1 -1 202 42" preserveAspectRatio="none" role="img" aria-label={props.label}>
      <polyline points={points(props.values, 200, 40, props.most)} />
    </svg>
  );
}
