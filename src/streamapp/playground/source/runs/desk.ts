/** What lies before the user: the endpoint, its input, the run that is shown, and the ones before. */

import { getDefaultFormState } from "@rjsf/utils";
import { useEffect, useMemo, useReducer, useRef, useState, useSyncExternalStore } from "react";
import type { Client, StreamappError } from "streamapp-client";

import { contentsOf, imageIn, type Media } from "./content";
import { History, lookOf, type Past, pastOf } from "./history";
import { inputLink, jobLink, type Place, placeOf, setAddress } from "./link";
import { Run } from "./run";
import { type Endpoint, fits, givenOnly, type Input, longPath } from "./schema";
import { FILLING, validator } from "./validate";

export interface Desk {
  /** Undefined when the app has none. */
  endpoint: Endpoint | undefined;
  input: Input;
  run: Run | undefined;
  /** Why the link that was opened shows nothing. */
  wrong: string | undefined;
  pasts: Past[];
  choose: (path: string) => void;
  setInput: (input: Input) => void;
  /** Choose an endpoint, and change what stands in its form. */
  lay: (endpoint: Endpoint, change: (before: Input) => Input) => void;
  start: (endpoint: Endpoint, input: Input) => void;
  /** Show a job: one of this visit, of the history, or another page's. */
  show: (jobId: string) => void;
  /** Show nothing, as before the first run. */
  clear: () => void;
  /** Return the run of a job that this page has read, or reads. */
  runOf: (jobId: string) => Run | undefined;
  /** Return the image that a job has made; undefined where nobody has it any more. */
  imageOf: (jobId: string) => Promise<Media | undefined>;
  /** Let a past run look like this in small. */
  picture: (jobId: string, picture: string) => void;
  /** Forget all past runs; returns what takes them back. */
  forget: () => () => void;
}

/** Keep the desk, and let the address say what is on it. */
export function useDesk(client: Client, endpoints: Endpoint[], server: string): Desk {
  const history = useMemo(() => new History(server), [server]);
  const [pasts, setPasts] = useState(() => history.all());
  const [path, choose] = useState("");
  const [inputs, setInputs] = useState<Record<string, Input>>({});
  const [run, setRun] = useState<Run>();
  const [wrong, setWrong] = useState<string>();
  const runs = useRef(new Map<string, Run>()); // those of this visit, live or over
  useSyncExternalStore(run?.subscribe ?? nothing, () => run?.version);

  const preferred = endpoints.find(({ kind }) => kind === "stream") ?? endpoints[0];
  const endpoint = endpoints.find((one) => one.path === path) ?? preferred;
  const initial = useMemo(() => (endpoint ? initialInput(endpoint) : {}), [endpoint]);
  const input = endpoint && endpoint.path in inputs ? inputs[endpoint.path] : initial;
  const lay = (of: string, input: Input) => {
    choose(of);
    setInputs((all) => ({ ...all, [of]: input }));
  };
  const display = (shown: Run | undefined, why?: string) => {
    setRun(shown);
    setWrong(why);
  };
  const find = (at: string) => endpoints.find((one) => one.path === at || longPath(one) === at);
  const amend = (jobId: string, news: Partial<Past>) => {
    const past = history.all().find((one) => one.jobId === jobId); // or it was forgotten meanwhile
    if (past) setPasts(history.put({ ...past, ...news }));
  };
  /** Keep what is known of a run in the history, whether it is shown or not. */
  const record = (of: Run) => {
    let told = "";
    const note = async () => {
      const news = `${of.jobId} ${of.status}`;
      if (of.jobId === undefined || news === told) return;
      told = news;
      runs.current.set(of.jobId, of);
      const past = pastOf(of);
      if (past) setPasts(history.put(past));
      if (past && of.isOver) amend(past.jobId, await lookOf(of));
    };
    of.subscribe(note);
    note();
    display(of);
  };
  const show = (jobId: string) => {
    const kept = history.all().find((one) => one.jobId === jobId);
    const of = kept && find(kept.path);
    const past = of && !fits(of, kept.input) ? undefined : kept;
    if (of && past) lay(past.path, past.input);
    const known = runs.current.get(jobId);
    if (known && !known.isLost) display(known);
    else record(Run.watch(client, jobId, find, past));
  };

  const isRead = (jobId: string) => runs.current.get(jobId)?.isOver === false;
  const open = pasts.filter(({ jobId, status }) => !ENDS.has(status) && !isRead(jobId));
  useOpenPasts(client, open, (past) => setPasts(history.put(past)));
  useEffect(() => {
    const read = () => setPasts(history.all()); // another tab has written it
    addEventListener("storage", read);
    return () => removeEventListener("storage", read);
  }, [history]);
  useAddress((place) => {
    if (place.kind === "wrong") return display(undefined, place.why);
    if (place.kind === "job") return place.jobId === run?.jobId ? undefined : show(place.jobId);
    const opened = endpoints.find((one) => one.path === place.path);
    if (!opened) return display(undefined, `This server has no endpoint ${place.path}.`);
    if (!fits(opened, place.input)) return display(undefined, "The input in the link is not a JSON object.");
    display(undefined);
    lay(place.path, place.input);
  });
  const { jobId, isOver } = run ?? {};
  useEffect(() => {
    if (jobId) setAddress(jobLink(jobId)); // a reload, or a copied address, shows this job
  }, [run, jobId, isOver]);
  const runPath = run?.endpoint?.path;
  useEffect(() => {
    if (runPath !== undefined) choose(runPath);
  }, [run, runPath]);

  return {
    endpoint, input, run, wrong, pasts, choose, show,
    lay: (one, change) => {
      choose(one.path);
      setInputs((all) => ({ ...all, [one.path]: change(one.path in all ? all[one.path] : initialInput(one)) }));
    },
    clear: () => {
      display(undefined);
      setAddress(inputLink(endpoint!.path, givenOnly(endpoint!, input)));
    },
    runOf: (jobId) => runs.current.get(jobId),
    imageOf: async (jobId) => {
      const known = runs.current.get(jobId);
      const contents = known?.isOver ? [...known.results.values()] : contentsOf(await client.job(jobId).result().catch(() => undefined));
      return imageIn(contents);
    },
    picture: (jobId, picture) => amend(jobId, { picture }),
    setInput: (input) => lay(endpoint!.path, input),
    start: (one, input) => {
      const address = inputLink(one.path, givenOnly(one, input));
      if (one.kind === "response") setAddress(address); // there is no job to come back to
      record(Run.start(client, one, input));
    },
    forget: () => {
      const forgotten = history.all();
      setPasts(history.clear());
      return () => setPasts(history.add(forgotten));
    },
  };
}

const nothing = () => () => {};
const ENDS: ReadonlySet<Past["status"]> = new Set(["succeeded", "cancelled", "failed", "unknown"]);
const ASK_AGAIN_MS = 2000;

/** Learn how jobs go on that this page does not read any more: it was left, or has lost the server. */
function useOpenPasts(client: Client, open: Past[], tell: (past: Past) => void): void {
  const [rounds, count] = useReducer((n: number) => n + 1, 0);
  useEffect(() => {
    if (!open.length) return;
    let isCurrent = true;
    const ask = async () => {
      for (const past of open) {
        const status = await statusOf(client, past);
        if (isCurrent && status !== past.status) tell({ ...past, status });
      }
      if (isCurrent) count();
    };
    const timer = setTimeout(ask, rounds ? ASK_AGAIN_MS : 0);
    return () => {
      isCurrent = false;
      clearTimeout(timer);
    };
  }, [client, rounds, open.map(({ jobId, status }) => jobId + status).join()]);
}

async function statusOf(client: Client, { jobId, status }: Past): Promise<Past["status"]> {
  const isGone = (error: StreamappError) => (error.code === "job_not_found" ? "unknown" : status);
  return client.job(jobId).status().then((now) => now.status, isGone);
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

/** Return what a form begins with. */
export function initialInput(endpoint: Endpoint): Input {
  return endpoint.isRaw ? (endpoint.schema.default ?? {}) : filledIn(endpoint, {});
}

/** Return an input with the defaults of what it does not say, as the form shows it. */
export function filledIn({ schema }: Endpoint, input: Input): Input {
  try {
    return getDefaultFormState(validator, schema, input as object, schema, false, FILLING) ?? {};
  } catch {
    return input; // no form can be made of it either
  }
}
