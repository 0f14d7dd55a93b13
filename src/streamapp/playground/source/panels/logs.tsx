/** What a run has logged. */

import { useState } from "react";

import { CopyButton } from "../parts/copy";
import type { LogLine, Run } from "../runs/run";
import { grouped } from "./grouped";

const ALL = "all";

/** All lines, or those of one level; the newest stays in sight until one scrolls up. */
export function Logs({ run }: { run: Run }) {
  const [chosen, choose] = useState(ALL);
  const levels = grouped(run.logs, ({ level }) => level.toLowerCase());
  const level = levels.has(chosen) ? chosen : ALL;
  const lines = levels.get(level) ?? run.logs;
  if (!run.logs.length) return <p className="note">{run.isOver ? "This run has no logs." : "No logs yet."}</p>;
  return (
    <>
      <div className="line log-tools">
        {levels.size > 1 && (
          <div className="line levels" role="group" aria-label="Level">
            {[[ALL, run.logs] as const, ...levels].map(([name, some]) => (
              <button key={name} type="button" className="quiet" aria-pressed={name === level} onClick={() => choose(name)}>
                {name} <span>{some.length}</span>
              </button>
            ))}
          </div>
        )}
        <CopyButton name="Copy all" text={() => lines.map(textOf).join("\n")} />
      </div>
      <div className="logs" tabIndex={0} role="group" aria-label="Log lines">
        <ol>
          {lines.map((line, n) => (
            <li key={n} className={`level-${line.level.toLowerCase()}`}>
              <time>{clock(line.at)}<i>{thousandths(line.at)}</i></time> <b>{line.level.toLowerCase()}</b> <span>{line.message}</span>
            </li>
          ))}
        </ol>
      </div>
    </>
  );
}

function textOf({ at, level, message }: LogLine): string {
  return `${clock(at)}${thousandths(at)} ${level.toLowerCase()} ${message}`;
}

/** The time of the day where the browser is. */
function clock(at: number): string {
  const date = new Date(at);
  const parts = [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => String(part).padStart(2, "0"));
  return parts.join(":");
}

function thousandths(at: number): string {
  return `.${String(Math.floor(at) % 1000).padStart(3, "0")}`;
}
