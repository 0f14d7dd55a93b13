/** What lies before the user: the endpoint, its input, the run that is shown, and the ones before. */

import { getDefaultFormState } from "@rjsf/utils";
import { useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import type { Client } from "streamapp-client";

import type { Input } from "./form";
import { History, type Past, pastOf } from "./history";
import { inputLink, jobLink, type Place, placeOf } from "./link";
import { Run } from "./run";
import { type Endpoint, givenOnly } from "./schema";
import { validator } from "./validate";

export interface Desk {
  /** Undefined when the app has none. */
  endpoint: Endpoint | undefined;
  input: Input;
  run: Run | undefined;
  pasts: Past[];
  choose: (path: string) => void;
  setInput: (input: Input) => void;
  start: (endpoint: Endpoint, input: Input) => void;
  /** Show a job: one of this visit, of the history, or another page's. */
  show: (jobId: string) => void;
  forget: () => void;
}

/** Keep the desk, and let the address say what is on it. */
export function useDesk(client: Client, endpoints: Endpoint[], server: string): Desk {
  const history = useMemo(() => new History(server), [server]);
  const [pasts, setPasts] = useState(() => history.all());
  const [path, choose] = useState(() => (endpoints.find(({ kind }) => kind === "stream") ?? endpoints[0])?.path ?? "");
  const [inputs, setInputs] = useState<Record<string, Input>>({});
  const [run, setRun] = useState<Run>();
  const runs = useRef(new Map<string, Run>()); // those of this visit, live or over
  useSyncExternalStore(run?.subscribe ?? nothing, () => run?.version);

  const endpoint = endpoints.find((one) => one.path === path);
  const initial = useMemo(() => (endpoint ? initialInput(endpoint) : {}), [endpoint]);
  const lay = (of: string, input: Input) => {
    choose(of);
    setInputs((all) => ({ ...all, [of]: input }));
  };
  const show = async (jobId: string) => {
    const past = history.all().find((one) => one.jobId === jobId);
    const of = endpoints.find((one) => one.path === past?.path) ?? (await endpointOf(client, endpoints, jobId));
    if (of && past) lay(of.path, past.input);
    else if (of) choose(of.path);
    setRun(runs.current.get(jobId) ?? Run.watch(client, jobId, of, past?.input));
  };
  const remember = async (jobId: string, of: Run) => {
    runs.current.set(jobId, of);
    const past = await pastOf(of);
    if (past) setPasts(history.put(past));
  };

  useEffect(() => {
    const open = pasts.filter(({ status }) => !ENDS.has(status)); // the page was left before they were over
    open.forEach(async (past) => setPasts(history.put({ ...past, status: await statusOf(client, past.jobId) })));
  }, [history]);
  useAddress((place) => {
    if (place.kind === "job" && place.jobId !== run?.jobId) show(place.jobId);
    if (place.kind === "input" && endpoints.some((one) => one.path === place.path)) lay(place.path, place.input);
  });
  const { jobId, isOver } = run ?? {};
  useEffect(() => {
    if (run && jobId) remember(jobId, run);
    if (jobId) window.history.replaceState(null, "", jobLink(jobId)); // a reload, or a copied address, shows this job
  }, [run, jobId, isOver]);

  return {
    endpoint, run, pasts, choose, show,
    input: inputs[path] ?? initial,
    setInput: (input) => lay(path, input),
    start: (one, input) => {
      const address = inputLink(one.path, givenOnly(one.schema, input));
      if (one.kind === "response") window.history.replaceState(null, "", address); // there is no job to come back to
      setRun(Run.start(client, one, input));
    },
    forget: () => setPasts(history.clear()),
  };
}

const nothing = () => () => {};
const ENDS: ReadonlySet<Past["status"]> = new Set(["succeeded", "cancelled", "failed", "unknown"]);

async function statusOf(client: Client, jobId: string): Promise<Past["status"]> {
  return client.job(jobId).status().then(({ status }) => status, () => "unknown" as const);
}

/** Follow the address: at the beginning, and when a link is opened. */
function useAddress(open: (place: Place) => void): void {
  const opener = useRef(open);
  opener.current = open;
  useEffect(() => {
    const read = () => {
      const place = placeOf(location.hash);
      if (place) opener.current(place);
    };
    read();
    addEventListener("hashchange", read);
    return () => removeEventListener("hashchange", read);
  }, []);
}

function initialInput({ schema }: Endpoint): Input {
  return (getDefaultFormState(validator, schema, {}, schema) ?? {}) as Input;
}

/** Find which endpoint a job is one of. */
async function endpointOf(client: Client, endpoints: Endpoint[], jobId: string): Promise<Endpoint | undefined> {
  const status = await client.job(jobId).status().catch(() => undefined);
  const { endpoint = "" } = (status ?? {}) as { endpoint?: string };
  return endpoints.find(({ path, app }) => [path, `/${app}${path}`.replace(/\/$/, "")].includes(endpoint));
}
