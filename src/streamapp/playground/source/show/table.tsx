/** Show rows as a table: sorted by a column, copied, saved. */

import { useMemo, useState } from "react";
import { stringifyJson } from "streamapp-client";

import { CopySign, copied } from "../parts/copy";
import { Icon, IconButton } from "../parts/icon";
import { save } from "./save";

const PAGE = 200; // rows that are drawn at a time
const LONG = 160; // letters of a cell of which some may be hidden

type Row = Record<string, unknown>;

interface Order {
  column: string;
  isRising: boolean;
}

/** A table; its columns are the keys of its rows, in the order in which they come. */
export function Table({ name, rows }: { name: string; rows: Row[] }) {
  const [most, setMost] = useState(PAGE);
  const [order, setOrder] = useState<Order>();
  const [isOpen, setOpen] = useState(false);
  const columns = useMemo(() => [...new Set(rows.flatMap(Object.keys))], [rows]);
  const numeric = useMemo(() => new Set(columns.filter((column) => rows.every((row) => isNumeric(row[column])))), [rows, columns]);
  const isLong = useMemo(() => rows.some((row) => Object.values(row).some((value) => cell(value).length > LONG)), [rows]);
  const sorted = useMemo(() => (order ? inOrder(rows, order) : rows), [rows, order]);
  const turn = (column: string) =>
    setOrder(order?.column !== column ? { column, isRising: true } : order.isRising ? { column, isRising: false } : undefined);
  const csv = () => csvOf(columns, sorted);
  const left = rows.length - most;
  const title = name.split(".").at(-1)!;
  return (
    <div className="table">
      <div className="line bar">
        <span className="note">{title && <b aria-hidden="true">{title} </b>}{rows.length === 1 ? "1 row" : `${rows.length} rows`}</span>
        {isLong && <button type="button" className="quiet" aria-pressed={isOpen} onClick={() => setOpen(!isOpen)}>Whole texts</button>}
        <CopySign name="Copy CSV" copy={() => copied(csv())} />
        <IconButton sign="download" name="Download CSV" onClick={() => save(new Blob([csv()], { type: "text/csv" }), `${title || "table"}.csv`)} />
      </div>
      <div className="scroll" tabIndex={0} role="group" aria-label={`Table ${name}`}>
        <table className={isOpen ? "open" : undefined}>
          {name && <caption className="unseen">{name}</caption>}
          <thead>
            <tr>
              {columns.map((column) => (
                <Head key={column} column={column} isNumeric={numeric.has(column)} order={order?.column === column ? order : undefined} onClick={() => turn(column)} />
              ))}
            </tr>
          </thead>
          <tbody>
            {sorted.slice(0, most).map((row, n) => (
              <tr key={n}>
                {columns.map((column) => (
                  <td key={column} className={numeric.has(column) ? "number" : undefined}><div>{cell(row[column])}</div></td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {left > 0 && (
        <div className="line more">
          <button type="button" className="quiet" onClick={() => setMost(most + PAGE)}>Show {Math.min(PAGE, left)} more</button>
          <span className="note">{left} more rows</span>
        </div>
      )}
    </div>
  );
}

interface HeadProps {
  column: string;
  isNumeric: boolean;
  order: Order | undefined;
  onClick: () => void;
}

/** A click sorts by it, another the other way round, a third as they came. */
function Head({ column, isNumeric, order, onClick }: HeadProps) {
  return (
    <th scope="col" className={isNumeric ? "number" : undefined} aria-sort={order && (order.isRising ? "ascending" : "descending")}>
      <button type="button" onClick={onClick}>{column}<Icon sign={order && !order.isRising ? "fall" : "rise"} /></button>
    </th>
  );
}

function isNumeric(value: unknown): boolean {
  return value === undefined || value === null || typeof value === "number" || typeof value === "bigint";
}

function cell(value: unknown): string {
  return value === undefined || value === null ? "" : typeof value === "string" ? value : stringifyJson(value);
}

/** What is empty comes last, in either order. */
function inOrder(rows: Row[], { column, isRising }: Order): Row[] {
  const words = new Intl.Collator(undefined, { numeric: true });
  const compare = (a: any, b: any) => (isNumeric(a) && isNumeric(b) ? (a < b ? -1 : a > b ? 1 : 0) : words.compare(cell(a), cell(b)));
  return [...rows].sort(({ [column]: a }, { [column]: b }) => {
    const isEmpty = [a, b].map((value) => value === undefined || value === null);
    if (isEmpty[0] || isEmpty[1]) return Number(isEmpty[0]) - Number(isEmpty[1]);
    return isRising ? compare(a, b) : compare(b, a);
  });
}

/** RFC 4180. */
function csvOf(columns: string[], rows: Row[]): string {
  const quoted = (text: string) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  return [columns, ...rows.map((row) => columns.map((column) => cell(row[column])))].map((cells) => cells.map(quoted).join(",") + "\r\n").join("");
}
