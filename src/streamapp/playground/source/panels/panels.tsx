/** What else there is to know of a run, and how to make it from elsewhere: one at a time, by tabs. */

import { type ReactNode, useId, useState } from "react";

import { lately } from "../parts/lately";
import { TabPanel, Tabs } from "../parts/tabs";
import type { Frames } from "../runs/frames";
import type { Run } from "../runs/run";
import { Json } from "./json";
import { Strip } from "./strip";

const Logs = lately(async () => (await import("./logs")).Logs);
const Timeline = lately(async () => (await import("./timeline")).Timeline);

const TABS = ["Preview", "JSON", "Logs", "Timeline", "Code"] as const;
type Tab = (typeof TABS)[number];

interface PanelsProps {
  run: Run | undefined;
  frames: Frames;
  code: ReactNode;
}

/** The tabs below the stage. */
export function Panels({ run, frames, code }: PanelsProps) {
  const id = useId();
  const [chosen, choose] = useState<Tab>();
  const shown = chosen ?? usual(run, frames);
  return (
    <section aria-label="Details" className="card panels">
      <Tabs name="Details" tabs={TABS} chosen={shown} onChoose={(tab) => choose(tab as Tab)} panel={id} />
      <TabPanel id={id} chosen={shown} className="panel">
        {shown === "Code" ? code : run ? <Panel {...{ run, frames, shown }} /> : <p className="note">Nothing has been run yet.</p>}
      </TabPanel>
    </section>
  );
}

/** Before anything has been run it is the code that there is to see, and of a run without previews its JSON, if it is not on the stage. */
function usual(run: Run | undefined, { all }: Frames): Tab {
  if (!run) return "Code";
  if (!run.isOver || all.length > 1) return "Preview";
  const isOnStage = !run.results.size && !run.text && !run.sounds.size;
  return run.outputs.length && !isOnStage ? "JSON" : "Timeline";
}

interface PanelProps {
  run: Run;
  frames: Frames;
  shown: Exclude<Tab, "Code">;
}

function Panel({ run, frames, shown }: PanelProps) {
  if (shown === "JSON") return <Json run={run} />;
  if (shown === "Logs") return <Logs run={run} />;
  if (shown === "Timeline") return <Timeline run={run} />;
  if (frames.all.length > 1) return <Strip frames={frames.all} at={frames.at} choose={frames.choose} />;
  return <p className="note">{run.isOver ? "This run has no previews." : "Previews are kept here, to look at again."}</p>;
}
