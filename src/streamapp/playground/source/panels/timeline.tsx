/** Tell when each event of a run came, and how fast. */

import { useNow } from "../parts/now";
import { readable } from "../runs/quantities";
import type { Arrival, Run } from "../runs/run";
import { grouped } from "./grouped";

const MOST_ROWS = 100;
const MOST_LANES = 6;
const TRACK = 1000; // how fine a lane is
const EDGE = 3; // so that the last mark is seen whole
// Shorter than this, events have come in one packet, and their rate says nothing.
const LEAST_FLOW_MS = 20;

/** Figures, and below them the events. */
export function Timeline({ run }: { run: Run }) {
  return <><Figures run={run} /><Events run={run} /></>;
}

/** A lane with a mark for each event of a kind, and the newest events in a table. */
function Events({ run }: { run: Run }) {
  const now = useNow(!run.isOver);
  const end = run.endedAt ?? Math.max(now, run.arrivals.at(-1)?.at ?? 0);
  const newest = run.arrivals.slice(-MOST_ROWS).reverse();
  if (!newest.length) return <p className="note">{run.isOver ? "This run has no events." : "No events yet."}</p>;
  return (
    <>
      <Lanes arrivals={run.arrivals} from={run.startedAt} to={end} />
      <div className="scroll" tabIndex={0} role="group" aria-label="Events">
        <table className="events">
          <thead>
            <tr>{["#", "Event", "After", "Size"].map((column) => <th key={column} scope="col">{column}</th>)}</tr>
          </thead>
          <tbody>
            {newest.map(({ name, at, bytes }, n) => (
              <tr key={run.count - n}>
                <td>{run.count - n}</td>
                <td>{name}</td>
                <td>{hundredths(at - run.startedAt)}</td>
                <td>{readable(bytes)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {run.count > newest.length && <p className="note">The newest {newest.length} of {run.count} events.</p>}
    </>
  );
}

/** For the eye; the table says it in words. */
function Lanes({ arrivals, from, to }: { arrivals: Arrival[]; from: number; to: number }) {
  const names = [...new Set(arrivals.map(({ name }) => name))];
  const named = names.slice(0, names.length > MOST_LANES ? MOST_LANES - 1 : MOST_LANES);
  const lanes = grouped(arrivals, ({ name }) => (named.includes(name) ? name : "others"));
  return (
    <div className="lanes" aria-hidden="true">
      {[...lanes].map(([name, some]) => (
        <div key={name} className={`lane mark-${name}`}>
          <span>{name}</span>
          <svg viewBox={`0 0 ${TRACK} 1`} preserveAspectRatio="none"><path d={marksOf(some, from, to)} /></svg>
        </div>
      ))}
      <div className="lane"><span /><span className="ends"><span>0 s</span><span>{hundredths(to - from)}</span></span></div>
    </div>
  );
}

/** One path for all: thousands of elements would be slow. */
function marksOf(arrivals: Arrival[], from: number, to: number): string {
  const places = arrivals.map(({ at }) => EDGE + Math.round(((TRACK - 2 * EDGE) * (at - from)) / Math.max(1, to - from)));
  return [...new Set(places)].map((place) => `M${place} 0v1`).join("");
}

/** What there is to measure. */
function Figures({ run }: { run: Run }) {
  const now = useNow(!run.isOver);
  const spent = (run.endedAt ?? Math.max(now, run.startedAt)) - run.startedAt;
  const flowing = run.firstAt === undefined ? 0 : run.arrivals.at(-1)!.at - run.firstAt;
  const figures = {
    "time to first event": run.firstAt === undefined ? "–" : hundredths(run.firstAt - run.startedAt),
    "events per second": flowing > LEAST_FLOW_MS ? ((1000 * (run.count - 1)) / flowing).toFixed(1) : "–",
    events: String(run.count),
    total: hundredths(spent),
  };
  return (
    <dl className="figures">
      {Object.entries(figures).map(([name, figure]) => (
        <div key={name}><dt>{name}</dt><dd>{figure}</dd></div>
      ))}
    </dl>
  );
}

function hundredths(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}
