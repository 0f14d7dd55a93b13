/** Form, output and history around one endpoint. */

import { type MouseEvent, useEffect, useReducer, useRef } from "react";
import type { Client, StreamappError } from "streamapp-client";

import { Code } from "./code";
import { type Desk, useDesk } from "./desk";
import { EndpointForm } from "./form";
import { Guard } from "./guard";
import { type Past, seedOf } from "./history";
import { inputLink, jobLink } from "./link";
import { Upload } from "./media";
import { Output } from "./output";
import { CopyButton, Region, Traceback, tracebackOf } from "./parts";
import { Pasts } from "./pasts";
import { RawForm, RawInput } from "./raw";
import type { Readiness } from "./ready";
import { remedyFor } from "./remedies";
import type { Run } from "./run";
import { type About, type Endpoint, type Fields, givenOnly, type Input } from "./schema";
import { Prose } from "./text";
import { Figures, Logs, Timeline } from "./timeline";

const MOST_UNFOLDED = 200; // characters of one paragraph: three lines beside each other, five on a phone
const WORDS: Partial<Record<Run["status"], string>> = { sought: "looking for the job" };
const SHOWN_HERE = "What the app makes is shown here while it is being made.";
const WELCOME: Partial<Record<Endpoint["kind"], string>> = {
  session: `Press Connect, fill in the form, and send it as often as you like. ${SHOWN_HERE}`,
  socket: "What is said over this WebSocket only the app knows. How it is opened stands under Code to copy.",
};

interface PlaygroundProps {
  title: string;
  abouts: Record<string, About>;
  endpoints: Endpoint[];
  client: Client;
  server: string;
  hasKey: boolean;
  readiness: Readiness;
  upload: (file: Blob, name: string) => Promise<string>;
}

/** All below the header. */
export function Playground({ title, abouts, endpoints, client, server, hasKey, readiness, upload }: PlaygroundProps) {
  const desk = useDesk(client, endpoints, server);
  const { endpoint, input, run, pasts } = desk;
  const output = useRef<HTMLDivElement>(null);
  useTitle(title, run);
  if (!endpoint) return <p role="alert" className="error">This app has no endpoint that a page could call.</p>;
  const seen = () => bringIntoView(output.current!.firstElementChild!);
  const start = (one: Endpoint, given: Input) => {
    desk.start(one, given);
    seen();
  };
  const show = (jobId: string) => {
    desk.show(jobId);
    seen();
  };
  return (
    <Upload.Provider value={upload}>
      <AboutRegion about={abouts[endpoint.app]} shown={title} />
      <div className="left">
        <InputRegion {...{ endpoints, endpoint, desk, readiness, start }} />
        <Region name="History" tools={pasts.length > 0 && <button type="button" onClick={desk.forget}>Clear</button>}>
          <Pasts pasts={pasts} shown={run?.jobId} onChoose={show} />
        </Region>
      </div>
      <div className="right" ref={output}>
        <OutputRegion {...{ endpoint, desk, readiness }} />
        {run && (
          <>
            <Region name="Figures"><Figures run={run} /></Region>
            <Region name="Timeline"><Timeline run={run} /></Region>
            <Region name="Logs"><Logs run={run} /></Region>
          </>
        )}
        <Region name="Code to copy">
          <Code {...{ server, hasKey, endpoint, input }} />
        </Region>
      </div>
    </Upload.Provider>
  );
}

/** What the app says of itself; its title only where the page has another one, and what is long folded. */
function AboutRegion({ about, shown }: { about: About | undefined; shown: string }) {
  const [isOpen, toggle] = useReducer((isOn) => !isOn, false);
  const title = about?.title === shown ? "" : about?.title;
  const text = about?.description.trim() ?? "";
  if (!title && !text) return null;
  const isLong = text.length > MOST_UNFOLDED || /\n\s*\n/.test(text);
  return (
    <section aria-label="About" className="region about">
      <div className={isLong && !isOpen ? "folded" : undefined}>
        {title && <h2>{title}</h2>}
        {text && <Prose text={text} />}
      </div>
      {isLong && <button type="button" aria-expanded={isOpen} onClick={toggle}>{isOpen ? "Show less" : "Show all"}</button>}
    </section>
  );
}

interface InputRegionProps {
  endpoints: Endpoint[];
  endpoint: Endpoint;
  desk: Desk;
  readiness: Readiness;
  start: (endpoint: Endpoint, input: Input) => void;
}

function InputRegion({ endpoints, endpoint, desk, readiness, start }: InputRegionProps) {
  const { input, run, choose } = desk;
  const [isRaw, toggleRaw] = useReducer((isOn) => !isOn, false);
  const [isLive, toggleLive] = useReducer((isOn) => !isOn, false);
  const { path, schema, description, kind } = endpoint;
  const own = run?.endpoint?.path === path ? run : undefined;
  const session = own?.takesInputs ? own : undefined;
  const begin = (given: Input) => (session ? session.send(given) : start(endpoint, given));
  const setInput = (given: Input) => {
    desk.setInput(given);
    if (isLive) session?.send(given);
  };
  const toggle = <button type="button" aria-pressed={isRaw} onClick={toggleRaw}>Raw JSON</button>;
  const error = own?.error ?? own?.inputError;
  const hasForm = !endpoint.isRaw && kind !== "socket";
  return (
    <Region name="Input" tools={hasForm && toggle}>
      <label className="control-label" htmlFor="endpoint">Endpoint</label>
      <select id="endpoint" value={path} onChange={({ target }) => choose(target.value)}>
        {endpoints.map((one) => <option key={one.path}>{one.path}</option>)}
      </select>
      {description && <div className="note"><Prose text={description} /></div>}
      {endpoint.isRaw && <RawForm key={path} id="form" input={input} onChange={setInput} onRun={begin} />}
      {hasForm && (
        <>
          {isRaw && <RawInput key={path} input={input} onChange={setInput} />}
          <EndpointForm key={`form of ${path}`} id="form" input={input as Fields} {...{ schema, error }} onChange={setInput} onRun={begin} />
        </>
      )}
      {kind !== "socket" && (
        <div className="line actions">
          <button type="submit" form="form" className="main" title="Ctrl+Enter" onClick={session ? undefined : once(() => {})}>
            {session ? "Send" : kind === "session" ? "Connect" : "Run"}
          </button>
          <button type="button" disabled={!run || run.isOver || run.isCancelling} onClick={() => run!.cancel()}>Cancel</button>
          {kind === "session" ? (
            <>
              <button type="button" disabled={!session} onClick={() => session!.finish()}>Finish</button>
              <label className="line"><input type="checkbox" checked={isLive} onChange={toggleLive} />Send each change</label>
            </>
          ) : (
            <button type="button" disabled={!isRepeatable(run)} onClick={once(() => start(run!.endpoint!, again(run!)))}>Run again</button>
          )}
          <span className="note" aria-live="polite">{readiness.note}</span>
        </div>
      )}
    </Region>
  );
}

function isRepeatable(run: Run | undefined): boolean {
  return run?.endpoint !== undefined && run.endpoint.kind !== "session" && run.input !== undefined;
}

/** Take a double click for one: some people always make two. */
function once(act: () => void) {
  return (event: MouseEvent) => (event.detail > 1 ? event.preventDefault() : act());
}

/** Return the input of a run, with the seed that the server drew for it. */
function again({ endpoint, input, result }: Run): Input {
  const seed = endpoint!.schema.properties?.seed && seedOf(result);
  const given = input as Fields;
  return seed !== undefined && given.seed === undefined ? { ...given, seed } : input;
}

interface OutputRegionProps {
  endpoint: Endpoint;
  desk: Desk;
  readiness: Readiness;
}

function OutputRegion({ endpoint, desk: { input, run, wrong, pasts }, readiness }: OutputRegionProps) {
  const shared = () => inputLink(endpoint.path, givenOnly(endpoint, input));
  const links = (
    <>
      {run?.jobId && <CopyButton name="Watch link" text={() => jobLink(run.jobId!)} />}
      <CopyButton name="Share" text={shared} onCopy={() => window.history.replaceState(null, "", shared())} />
    </>
  );
  return (
    <Region name="Output" tools={links}>
      <p role="status" className={`status ${run ? run.status : wrong ? "failed" : readiness.state}`}>
        {run ? statusWords(run, pasts, readiness) : wrong ? "not found" : readiness.words}
      </p>
      {wrong && <p role="alert" className="error">{wrong}</p>}
      {run?.status === "failed" && run.error && <Trouble error={run.error} />}
      {run?.inputError && <p role="alert" className="error">{run.inputError.message}</p>}
      {readiness.traceback && run?.error?.code !== "setup_failed" && (
        <div role="alert" className="error">
          <p>{readiness.note}</p>
          <Traceback text={readiness.traceback} />
        </div>
      )}
      {run ? <Guard key={run.startedAt}><Output run={run} /></Guard> : <p className="empty">{WELCOME[endpoint.kind] ?? `Fill in the form and press Run. ${SHOWN_HERE}`}</p>}
    </Region>
  );
}

function statusWords(run: Run, pasts: Past[], { state }: Readiness): string {
  if (run.isCancelling && !run.isOver) return "cancelling";
  if (run.error?.code === "job_not_found") return "not found";
  if (run.isOwn && run.endpoint?.kind === "session") {
    if (run.status === "queued") return "connecting";
    if (run.status === "running") return run.isFinished ? "finishing" : "connected";
  }
  if (!run.isSent) return run.isOver ? run.status : "queued: after another run of this page";
  if (run.status !== "queued" || run.position === undefined) return WORDS[run.status] ?? run.status;
  if (state === "loading") return `queued: ${run.position ? `${run.position} before this one` : "next"}, when the app has loaded`;
  const alike = pasts.filter(({ path, status }) => path === run.endpoint?.path && status === "succeeded");
  const times = alike.flatMap(({ ms }) => ms ?? []).sort((a, b) => a - b);
  const usual = times[Math.floor(times.length / 2)];
  const wait = usual ? `, about ${Math.ceil((usual * (run.position + 1)) / 1000)} s` : ""; // the one that runs, too
  return `queued: ${run.position ? `${run.position} before this one` : "next"}${wait}`;
}

function Trouble({ error }: { error: StreamappError }) {
  return (
    <div role="alert" className="error">
      <p><b>{error.message}</b></p>
      <p>{remedyFor(error)}</p>
      <Traceback text={tracebackOf(error)} />
      {error.status && !error.message.startsWith("HTTP") && <p className="note">HTTP {error.status}</p>}
    </div>
  );
}

/** Let the tab's title tell how the run is going. */
function useTitle(title: string, run: Run | undefined): void {
  const { status, progress } = run ?? {};
  const { step = 0, total } = progress ?? {};
  const share = status === "running" && total ? `${Math.round((100 * step) / total)} %` : status;
  useEffect(() => {
    document.title = share ? `${share} · ${title}` : title;
  }, [share, title]);
}

/** On a narrow page the output is far below the button, and anywhere one may have scrolled past it. */
function bringIntoView(element: Element): void {
  const { top } = element.getBoundingClientRect();
  if (top < 0 || top > innerHeight / 2) element.scrollIntoView();
}
