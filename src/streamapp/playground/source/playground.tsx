/** Form, output and history around one endpoint. */

import { getDefaultFormState } from "@rjsf/utils";
import { type ReactNode, useEffect, useMemo, useReducer, useRef, useState, useSyncExternalStore } from "react";
import type { Client, StreamappError } from "streamapp-client";

import { Code } from "./code";
import { EndpointForm, type Input } from "./form";
import { History, type Past, pastOf } from "./history";
import { inputLink, jobLink, placeOf } from "./link";
import { Upload } from "./media";
import { Output } from "./output";
import { CopyButton } from "./parts";
import { remedyFor } from "./remedies";
import { Run } from "./run";
import { type Endpoint, givenOnly } from "./schema";
import { Figures, Logs, Timeline } from "./timeline";
import { validator } from "./validate";

interface PlaygroundProps {
  title: string;
  endpoints: Endpoint[];
  client: Client;
  server: string;
  hasKey: boolean;
  upload: (file: Blob, name: string) => Promise<string>;
}

/** All below the header. */
export function Playground({ endpoints, client, server, hasKey, upload }: PlaygroundProps) {
  const history = useMemo(() => new History(server), [server]);
  const [pasts, setPasts] = useState(() => history.all());
  const [path, setPath] = useState(() => (endpoints.find(({ kind }) => kind === "stream") ?? endpoints[0])?.path ?? "");
  const [inputs, setInputs] = useState<Record<string, Input>>({});
  const [isRaw, toggleRaw] = useReducer((isOn) => !isOn, false);
  const [run, setRun] = useState<Run>();
  const runs = useRef(new Map<string, Run>()); // those of this visit, live or over
  useRun(run);

  const endpoint = endpoints.find((one) => one.path === path);
  const input = inputs[path] ?? (endpoint ? initialInput(endpoint) : {});
  const setInput = (given: Input, of = path) => setInputs((all) => ({ ...all, [of]: given }));

  const remember = async (of: Run) => {
    if (of.jobId) runs.current.set(of.jobId, of);
    const past = await pastOf(of);
    if (past) setPasts(history.put(past));
  };
  const start = (one: Endpoint, given: Input) => setRun(Run.start(client, one, given));
  const show = async (jobId: string) => {
    const past = history.all().find((one) => one.jobId === jobId);
    const of = endpoints.find((one) => one.path === past?.path) ?? (await endpointOf(client, endpoints, jobId));
    if (of) setPath(of.path);
    if (of && past) setInput(past.input, of.path);
    setRun(runs.current.get(jobId) ?? Run.watch(client, jobId, of, past?.input));
  };
  const open = () => {
    const place = placeOf(location.hash);
    if (place?.kind === "job" && place.jobId !== run?.jobId) show(place.jobId);
    if (place?.kind !== "input" || !endpoints.some((one) => one.path === place.path)) return;
    setPath(place.path);
    setInput(place.input, place.path);
  };

  const opener = useRef(open);
  opener.current = open;
  useEffect(() => {
    opener.current();
    const onHash = () => opener.current();
    addEventListener("hashchange", onHash);
    return () => removeEventListener("hashchange", onHash);
  }, []);
  const { jobId, isOver } = run ?? {};
  useEffect(() => {
    if (run && jobId) remember(run);
    if (jobId) window.history.replaceState(null, "", jobLink(jobId)); // a reload, or a copied address, shows this job
  }, [run, jobId, isOver]);

  if (!endpoint) return <p role="alert" className="error">This app has no endpoint that a page could call.</p>;
  return (
    <Upload.Provider value={upload}>
      <div className="left">
        <Region name="Input">
          <label className="field">
            Endpoint
            <select value={path} onChange={({ target }) => setPath(target.value)}>
              {endpoints.map((one) => <option key={one.path}>{one.path}</option>)}
            </select>
          </label>
          <p className="about">{endpoint.description}</p>
          <EndpointForm key={path} schema={endpoint.schema} input={input} error={run?.endpoint === endpoint ? run.error : undefined}
            onChange={setInput} onRun={(given) => start(endpoint, given)}>
            <div className="row actions">
              <button type="submit" className="main">Run</button>
              <button type="button" disabled={!run || run.isOver} onClick={() => run!.cancel()}>Cancel</button>
              <button type="button" disabled={!run?.endpoint || !run.input} onClick={() => start(run!.endpoint!, again(run!))}>Run again</button>
              <button type="button" aria-pressed={isRaw} onClick={toggleRaw}>Raw JSON</button>
            </div>
          </EndpointForm>
          {isRaw && <RawInput key={path} input={input} onChange={setInput} />}
        </Region>
        <Region name="History">
          <Pasts pasts={pasts} shown={jobId} onChoose={show} onClear={() => setPasts(history.clear())} />
        </Region>
      </div>
      <div className="right">
        <Region name="Output">
          <div className="row">
            <p role="status" className={`status ${run?.status ?? ""}`}>{run ? statusWords(run, pasts) : "Fill in the form, and press Run."}</p>
            <CopyButton name="Share" text={() => shareLink(endpoint, input)} onCopy={() => window.history.replaceState(null, "", shareLink(endpoint, input))} />
            {jobId && <CopyButton name="Watch link" text={() => jobLink(jobId)} />}
          </div>
          {run?.status === "failed" && run.error && <Trouble error={run.error} />}
          {run && <Output run={run} />}
        </Region>
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

function useRun(run: Run | undefined): void {
  useSyncExternalStore(run?.subscribe ?? nothing, () => run?.version);
}

const nothing = () => () => {};

function Region({ name, children }: { name: string; children: ReactNode }) {
  return (
    <section aria-label={name}>
      <h2>{name}</h2>
      {children}
    </section>
  );
}

function initialInput({ schema }: Endpoint): Input {
  return (getDefaultFormState(validator, schema, {}, schema) ?? {}) as Input;
}

function shareLink({ path, schema }: Endpoint, input: Input): string {
  return inputLink(path, givenOnly(schema, input));
}

/** Return the input of a run, with the seed that the server drew for it. */
function again({ endpoint, input, result }: Run): Input {
  const takesSeed = endpoint!.schema.properties?.seed && input!.seed === undefined && typeof result?.seed === "number";
  return takesSeed ? { ...input, seed: result.seed } : input!;
}

/** Find which endpoint a job is one of. */
async function endpointOf(client: Client, endpoints: Endpoint[], jobId: string): Promise<Endpoint | undefined> {
  const status = await client.job(jobId).status().catch(() => undefined);
  const { endpoint = "" } = (status ?? {}) as { endpoint?: string };
  const isIt = ({ path, app }: Endpoint) => [path, `/${app}${path}`.replace(/\/$/, "")].includes(endpoint);
  return endpoints.find(isIt);
}

function statusWords(run: Run, pasts: Past[]): string {
  if (run.status !== "queued") return run.status;
  const times = pasts.flatMap(({ path, ms, status }) => (path === run.endpoint?.path && status === "succeeded" && ms ? [ms] : [])).sort((a, b) => a - b);
  const usual = times[Math.floor(times.length / 2)];
  const wait = usual && run.position ? `, about ${Math.ceil((usual * run.position) / 1000)} s` : "";
  return `queued${run.position ? `: ${run.position} before this one${wait}` : ""}`;
}

function Trouble({ error }: { error: StreamappError }) {
  return (
    <div role="alert" className="error">
      <p><b>{error.message}</b></p>
      <p>{remedyFor(error)}</p>
    </div>
  );
}

function RawInput({ input, onChange }: { input: Input; onChange: (input: Input) => void }) {
  const [text, setText] = useState<string>(); // while it is no JSON yet
  const [problem, setProblem] = useState("");
  const edit = (given: string) => {
    setText(given);
    try {
      onChange(JSON.parse(given));
      setProblem("");
    } catch (error) {
      setProblem((error as Error).message);
    }
  };
  return (
    <>
      <textarea aria-label="Input as JSON" className="raw" rows={12} spellCheck={false} value={text ?? JSON.stringify(input, null, 2)}
        onChange={({ target }) => edit(target.value)} onBlur={() => !problem && setText(undefined)} />
      {problem && <p role="alert" className="error">{problem}</p>}
    </>
  );
}

interface PastsProps {
  pasts: Past[];
  shown: string | undefined;
  onChoose: (jobId: string) => void;
  onClear: () => void;
}

function Pasts({ pasts, shown, onChoose, onClear }: PastsProps) {
  if (!pasts.length) return <p className="note">No runs yet.</p>;
  return (
    <>
      <ol className="history">
        {pasts.map((past) => (
          <li key={past.jobId}>
            <button type="button" aria-current={past.jobId === shown} onClick={() => onChoose(past.jobId)}>
              {past.picture && <img src={past.picture} alt="" />}
              <span>
                <b>{past.path}</b> {brief(past.input)}
                <br />
                <span className="note">{past.status}{past.seed !== undefined && `, seed ${past.seed}`}, {new Date(past.at).toLocaleTimeString()}</span>
              </span>
            </button>
          </li>
        ))}
      </ol>
      <button type="button" onClick={onClear}>Clear</button>
    </>
  );
}

function brief(input: Input): string {
  const text = Object.values(input).find((value) => typeof value === "string" && value) as string | undefined;
  return text ? text.slice(0, 80) : "";
}
