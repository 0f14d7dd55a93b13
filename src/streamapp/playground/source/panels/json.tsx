/** Show the events of a run as JSON. */

import { stringifyJson } from "streamapp-client";

import { CopyButton } from "../parts/copy";
import type { Run } from "../runs/run";
import { FoldingTree, Tree } from "./tree";

/** The last event, the result, open, and those before it folded. */
export function Json({ run }: { run: Run }) {
  const [last, ...others] = [...run.outputs].reverse();
  if (!last) return <p className="note">{run.isOver ? "This run has no JSON." : "No JSON yet."}</p>;
  const hidden = run.outputCount - run.outputs.length;
  const copy = <CopyButton name="Copy JSON" text={() => stringifyJson(last.data, 2)} />;
  return (
    <section className="json" aria-label="JSON">
      <FoldingTree value={last.data} name={run.status === "succeeded" ? "result" : last.name} tools={copy} />
      {others.length > 0 && (
        <details>
          <summary>{others.length} earlier {others.length === 1 ? "event" : "events"}</summary>
          <div className="parts">
            {others.map(({ name, data }, n) => <Tree key={others.length - n} value={data} name={name} />)}
            {hidden > 0 && <p className="note">{hidden} earlier ones are not kept.</p>}
          </div>
        </details>
      )}
    </section>
  );
}
