/** Tell how a job went: when each event came, how fast, and what it logged. */

import { readable } from "./content";
import { useNow } from "./parts";
import type { Arrival, Run } from "./run";

const MOST_ROWS = 100;
const TRACK = 1000;
// Shorter than this, events have come in one packet, and their rate says nothing.
const LEAST_FLOW_MS = 20;

/** The region "Timeline": a track with a mark for each event, and the newest ones in a table. */
export function Timeline({ run }: { run: Run }) {
  const now = useNow(!run.isOver);
  const end = run.endedAt ?? Math.max(now, run.arrivals.at(-1)?.at ?? 0);
  const newest = run.arrivals.slice(-MOST_ROWS).reverse();
  const place = (at: number) => (TRACK * (at - run.startedAt)) / Math.max(1, end - run.startedAt);
  return (
    <>
      <svg viewBox={`0 0 ${TRACK} 24`} preserveAspectRatio="none" className="track" aria-hidden="true">
        {run.arrivals.map(({ name, at }, n) => (
          <rect key={n} className={`mark mark-${name}`} x={place(at)} y={0} width={2} height={24} />
        ))}
      </svg>
      <Legend arrivals={run.arrivals} />
      <div className="scroll" tabIndex={0} role="group" aria-label="Events">
        <table>
          <thead>
            <tr>{["#", "event", "came after", "size", "age"].map((column) => <th key={column} scope="col">{column}</th>)}</tr>
          </thead>
          <tbody>
            {newest.map(({ name, at, bytes }, n) => (
              <tr key={run.count - n}>
                <td>{run.count - n}</td>
                <td>{name}</td>
                <td>{seconds(at - run.startedAt)}</td>
                <td>{readable(bytes)}</td>
                <td>{seconds(Math.max(0, end - at))}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

/** Which colour is what; the table says it in words. */
function Legend({ arrivals }: { arrivals: Arrival[] }) {
  const names = [...new Set(arrivals.map(({ name }) => name))];
  return (
    <div className="line legend" aria-hidden="true">
      {names.map((name) => <span key={name} className={`mark-${name}`}>{name}</span>)}
    </div>
  );
}

/** The region "Figures". */
export function Figures({ run }: { run: Run }) {
  const now = useNow(!run.isOver);
  const spent = (run.endedAt ?? Math.max(now, run.startedAt)) - run.startedAt;
  const flowing = run.firstAt === undefined ? 0 : run.arrivals.at(-1)!.at - run.firstAt;
  const figures = {
    "time to first event": run.firstAt === undefined ? "–" : seconds(run.firstAt - run.startedAt),
    "events per second": flowing > LEAST_FLOW_MS ? ((1000 * (run.count - 1)) / flowing).toFixed(1) : "–",
    events: String(run.count),
    total: seconds(spent),
  };
  return (
    <dl className="figures">
      {Object.entries(figures).map(([name, figure]) => (
        <div key={name}><dt>{name}</dt><dd>{figure}</dd></div>
      ))}
    </dl>
  );
}

/** The region "Logs". */
export function Logs({ run }: { run: Run }) {
  if (!run.logs.length) return <p className="note">Nothing logged.</p>;
  return (
    <div className="logs" tabIndex={0} role="group" aria-label="Log lines">
      <ol>
        {run.logs.map(({ message, level }, n) => (
          <li key={n} className={`level-${level.toLowerCase()}`}><b>{level}</b> {message}</li>
        ))}
      </ol>
    </div>
  );
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}
