/** The list of past runs. */

import type { Past } from "./history";
import { type Input, isRecord } from "./schema";

interface PastsProps {
  pasts: Past[];
  shown: string | undefined;
  onChoose: (jobId: string) => void;
}

/** What the region "History" holds. */
export function Pasts({ pasts, shown, onChoose }: PastsProps) {
  if (!pasts.length) return <p className="note">No runs yet.</p>;
  return (
    <ol className="history">
      {pasts.map((past) => (
        <li key={past.jobId}>
          <button type="button" aria-current={past.jobId === shown} onClick={() => onChoose(past.jobId)}>
            {past.picture && <img src={past.picture} alt="" />}
            <span>
              <b>{past.path}</b> {brief(past.input)}
              <br />
              <span className="note">{facts(past).join(" · ")}</span>
            </span>
          </button>
        </li>
      ))}
    </ol>
  );
}

function facts({ status, ms, seed, at }: Past): string[] {
  const time = ms === undefined ? [] : [`${(ms / 1000).toFixed(1)} s`];
  return [status, ...time, ...(seed === undefined ? [] : [`seed ${seed}`]), new Date(at).toLocaleTimeString()];
}

function brief(input: Input): string {
  const text = Object.values(isRecord(input) ? input : [input]).find((value) => typeof value === "string" && value) as string | undefined;
  return text ? text.slice(0, 80) : "";
}
