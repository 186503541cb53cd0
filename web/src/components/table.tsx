/** Tables: a column is said once, with its head, its cells and what it sorts by. */
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { count } from "./format";
import { Failed, Loading } from "./parts";

/** A column of a table whose rows show a `T` each. */
export interface Column<T> {
  /** Stands above the column, and before each cell where there is no room for columns. */
  readonly label: string;
  readonly cell: (item: T) => ComponentChildren;
  /** Its cells name their rows. */
  readonly head?: true;
  /** Numbers stand at the right, below each other, as does their head. */
  readonly look?: "num" | "nowrap" | "mono";
  /** What a cell says to whoever points at it. */
  readonly title?: (item: T) => string | undefined;
  /** Makes the column one to sort by. */
  readonly sortBy?: (item: T) => SortValue;
}

/** What rows are put in order by; those without a value come last. */
export type SortValue = string | number | undefined;

/** Which column a table is sorted by, by its label, and how. */
export interface Sort {
  readonly by: string;
  readonly down: boolean;
}

interface Rows<T> {
  readonly columns: readonly Column<T>[];
  readonly keyOf: (item: T) => string;
  /** What can be done with a row, in a column without a visible head. */
  readonly actions?: (item: T) => ComponentChildren;
}

/** The table alone. */
export function Table<T>(
  props: Rows<T> & {
    readonly of: readonly T[];
    /** Rows in front of them. */
    readonly before?: ComponentChildren;
    readonly sort?: Sort | undefined;
    readonly onSort?: (sort: Sort) => void;
  },
) {
  const { columns, keyOf, actions } = props;
  return (
    <table class="cards">
      <thead>
        <tr>
          {columns.map((column) => (
            <Head key={column.label} column={column} sort={props.sort} onSort={props.onSort} />
          ))}
          {actions !== undefined && (
            <th scope="col">
              <span class="visually-hidden">Actions</span>
            </th>
          )}
        </tr>
      </thead>
      <tbody>
        {props.before}
        {props.of.map((item) => (
          <tr key={keyOf(item)}>
            {columns.map((column) => (
              <Cell key={column.label} column={column} item={item} />
            ))}
            {actions !== undefined && <td class="actions">{actions(item)}</td>}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Head<T>(props: {
  readonly column: Column<T>;
  readonly sort: Sort | undefined;
  readonly onSort: ((sort: Sort) => void) | undefined;
}) {
  const { column, sort, onSort } = props;
  const { label } = column;
  const look = column.look === "num" ? "num" : undefined;
  if (column.sortBy === undefined || onSort === undefined) {
    return (
      <th scope="col" class={look}>
        {label}
      </th>
    );
  }
  const active = sort?.by === label;
  return (
    <th scope="col" class={look} aria-sort={active ? (sort.down ? "descending" : "ascending") : undefined}>
      <button type="button" onClick={() => onSort({ by: label, down: active && !sort.down })}>
        {label}
      </button>
    </th>
  );
}

function Cell<T>(props: { readonly column: Column<T>; readonly item: T }) {
  const { column, item } = props;
  const common = { class: column.look, "data-label": column.label, title: column.title?.(item) };
  const shown = column.cell(item);
  if (column.head !== true) return <td {...common}>{shown}</td>;
  return (
    <th scope="row" {...common}>
      {shown}
    </th>
  );
}

/** How a list is narrowed: by a text, and by a choice where there is one. */
export interface Filter<T> {
  /** Says in the empty box what is looked at. */
  readonly hint: string;
  readonly choice?: {
    readonly label: string;
    /** The first one is chosen at first. */
    readonly options: readonly (readonly [value: string, label: string])[];
  };
  readonly narrow: (all: readonly T[], text: string, choice: string) => readonly T[];
}

/** Whether one of these words has a text in it, in capitals or not. */
export function matches(text: string, words: readonly (string | undefined)[]): boolean {
  const wanted = text.trim().toLowerCase();
  return wanted === "" || words.some((word) => word?.toLowerCase().includes(wanted) === true);
}

/** All there is of something: on its way, failed, none, or a table that can be narrowed and sorted. */
export function TableView<T>(
  props: Rows<T> & {
    /** Nothing while it is on its way. */
    readonly of: readonly T[] | null | undefined;
    /** What one of them is called. */
    readonly noun: string;
    readonly failure?: string | null;
    readonly onRetry?: () => void;
    /** Stands there instead of a table without rows. */
    readonly empty?: ComponentChildren;
    readonly filter?: Filter<T>;
    /** Label of the column that it is sorted by at first; without one, rows are in the order given. */
    readonly sortedBy?: string;
  },
) {
  const { of: all, filter, noun, columns, failure } = props;
  const [text, setText] = useState("");
  const [choice, setChoice] = useState(filter?.choice?.options[0]?.[0] ?? "");
  const [sort, setSort] = useState<Sort | undefined>(
    props.sortedBy === undefined ? undefined : { by: props.sortedBy, down: false },
  );
  const failed = failure != null && (
    <Failed text={failure} {...(props.onRetry && { onRetry: props.onRetry })} />
  );
  if (all == null) return failed || <Loading />;
  if (all.length === 0 && props.empty !== undefined) return failed || <>{props.empty}</>;
  const fitting = filter === undefined ? all : filter.narrow(all, text, choice);
  const sortBy = columns.find((column) => column.label === sort?.by)?.sortBy;
  const shown = sortBy === undefined ? fitting : sorted(fitting, sortBy, sort?.down === true);
  return (
    <>
      {failed}
      {filter !== undefined && (
        <search class="tools">
          <input
            type="search"
            aria-label={`Filter ${noun}s`}
            placeholder={filter.hint}
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
          {filter.choice !== undefined && (
            <select
              aria-label={filter.choice.label}
              value={choice}
              onChange={(event) => setChoice(event.currentTarget.value)}
            >
              {filter.choice.options.map(([value, label]) => (
                <option key={value} value={value}>
                  {label}
                </option>
              ))}
            </select>
          )}
          <span class="muted small" role="status">
            {shown.length === all.length ? "" : `${shown.length} of `}
            {count(all.length, noun)}
          </span>
        </search>
      )}
      <div class="table-wrap">
        <Table {...props} of={shown} sort={sort} onSort={setSort} />
      </div>
      {shown.length === 0 && all.length > 0 && <p class="loading">No {noun} fits the filter.</p>}
    </>
  );
}

/** Sorts by a value; what has none comes last, and equals stay in their order. */
export function sorted<T>(items: readonly T[], value: (item: T) => SortValue, down: boolean): T[] {
  return [...items].sort((a, b) => {
    const [left, right] = [value(a), value(b)];
    if (left === undefined || right === undefined) {
      return left === right ? 0 : left === undefined ? 1 : -1;
    }
    const order =
      typeof left === "number" && typeof right === "number"
        ? left - right
        : String(left).localeCompare(String(right), "en", { numeric: true });
    return down ? -order : order;
  });
}
