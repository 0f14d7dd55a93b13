/** What can be done with a run that is shown. */

import { type MouseEvent, useContext } from "react";

import { copied, copiedImage, NOT_COPIED } from "../parts/copy";
import { Icon, type Sign } from "../parts/icon";
import { imageIn } from "../runs/content";
import { jobLink, setAddress } from "../runs/link";
import type { Run } from "../runs/run";
import type { Deeds } from "./deeds";
import { filesOf, jsonOf, mediaOf, saveAll } from "./files";
import { Say } from "./foot";
import { Menu } from "./menu";

interface ActionsProps extends Omit<Deeds, "onExample" | "viewed"> {
  run: Run | undefined;
  /** The link to the endpoint with its inputs. */
  share: () => string;
}

/** The buttons at the right of the stage's foot: first what leads on, then what takes it elsewhere. */
export function Actions({ run, onAgain, onVary, uses, isCompared, onCompare, share }: ActionsProps) {
  const say = useContext(Say);
  const isOver = run?.isOver ?? false;
  const hasFiles = run !== undefined && isOver && filesOf(run).length > 0;
  const copyLink = async (link: string, words: string) => say((await copied(link)) ? words : NOT_COPIED);
  return (
    <div role="group" aria-label="Actions" className={run ? "acts full" : "acts"}>
      {isOver && onAgain && <Act sign="again" name="Run again" onClick={onAgain} />}
      {isOver && onVary && <Act sign="dice" name="Vary seed" title="Run it again with another seed" onClick={onVary} />}
      {isOver && uses.length === 1 && <Act sign="input" name="Use as input" title={`Put it into ${uses[0]!.name}`} onClick={uses[0]!.act} />}
      {isOver && uses.length > 1 && <Menu name="Use as input" items={uses}><Icon sign="input" /><span>Use as input</span></Menu>}
      {isOver && isCompared !== undefined && <Act sign="compare" name="Compare" title="Compare with the one before" isPressed={isCompared} onClick={onCompare} />}
      {hasFiles && <Act sign="download" name="Download" title={downloadTitle(run)} isBrief onClick={() => saveAll(run).catch((error: Error) => say(error.message))} />}
      {hasFiles && <Act sign="copy" name="Copy" title={`Copy the ${copyKind(run)}`} isBrief onClick={async () => say((await copiedFrom(run)) ? `Copied the ${copyKind(run)}` : NOT_COPIED)} />}
      <Act sign="share" name="Share" title="Copy a link with these inputs" isBrief onClick={() => {
        setAddress(share());
        copyLink(share(), "Copied a link with these inputs");
      }} />
      {run?.jobId && <Act sign="watch" name="Watch link" title="Copy a link to watch this run" isBrief onClick={() => copyLink(jobLink(run.jobId!), "Copied a link to this run")} />}
    </div>
  );
}

interface ActProps {
  sign: Sign;
  name: string;
  title?: string;
  isPressed?: boolean;
  /** Whether it is a sign alone, however much room there is. */
  isBrief?: boolean;
  onClick: () => void;
}

function Act({ sign, name, title = name, isPressed, isBrief = false, onClick }: ActProps) {
  const once = (event: MouseEvent) => event.detail < 2 && onClick(); // some people always click twice
  return (
    <button type="button" className={isBrief ? "act brief" : "act"} aria-label={name} title={title} aria-pressed={isPressed} onClick={once}>
      <Icon sign={sign} />
      <span>{name}</span>
    </button>
  );
}

function downloadTitle(run: Run): string {
  const [first, ...others] = filesOf(run);
  return others.length ? `Download all ${others.length + 1} files` : `Download ${first!.name}`;
}

function copyKind(run: Run): "image" | "text" | "JSON" {
  if (imageIn(mediaOf(run))) return "image";
  return run.text ? "text" : "JSON";
}

function copiedFrom(run: Run): Promise<boolean> {
  const image = imageIn(mediaOf(run));
  if (image) return copiedImage(image.url);
  return copied(run.text || jsonOf(run));
}
