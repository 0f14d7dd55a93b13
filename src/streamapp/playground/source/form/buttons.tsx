/** What starts a run and what ends it: one button in one place. */

import type { KeyboardEvent, MouseEvent } from "react";

import type { Readiness } from "../runs/ready";
import type { Run } from "../runs/run";
import type { Endpoint } from "../runs/schema";

interface ButtonsProps {
  /** The id of the form that they submit. */
  form: string;
  endpoint: Endpoint;
  /** The run that is shown. */
  run: Run | undefined;
  /** The same where it is a session of this page, and takes inputs. */
  session: Run | undefined;
  readiness: Readiness;
  isLive: boolean;
  onLive: () => void;
}

/** Run turns into Cancel for as long as what is shown goes on; another run can be started meanwhile. */
export function Buttons({ form, endpoint, run, session, readiness, isLive, onLive }: ButtonsProps) {
  const begin = endpoint.kind === "session" ? "Connect" : "Run";
  const isGoing = run !== undefined && !run.isOver;
  const submit = { type: "submit", form, title: "Ctrl+Enter", onClick: once(() => {}) } as const;
  // One element, so that the focus stays where it is.
  const main = isGoing && !session ? (
    <button key="main" type="button" className="stop" aria-disabled={run.isCancelling} onKeyDown={press} onClick={once(() => run.cancel())}>Cancel</button>
  ) : (
    <button key="main" {...submit} className="main" onKeyDown={press} {...(session && { onClick: undefined })}>{session ? "Send" : begin}</button>
  );
  return (
    <div className="actions">
      {main}
      {session && (
        <div className="line">
          <button type="button" onClick={() => session.finish()}>Finish</button>
          <button type="button" onClick={() => session.cancel()}>Cancel</button>
          <label className="line"><input type="checkbox" checked={isLive} onChange={onLive} />Send each change</label>
        </div>
      )}
      {isGoing && !session && (
        <button {...submit} className="quiet">{run.endpoint?.path === endpoint.path ? `${begin} another` : begin}</button>
      )}
      <span className="note" aria-live="polite">{readiness.note}</span>
    </div>
  );
}

/** A key that is held presses once: what it would press next is something else. */
function press(event: KeyboardEvent): void {
  if (event.repeat) event.preventDefault();
}

/** Take a double click for one: some people always make two, and the second would be on what the first one has put there. */
function once(act: () => void) {
  return (event: MouseEvent) => (event.detail > 1 ? event.preventDefault() : act());
}
