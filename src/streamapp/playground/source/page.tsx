/** The page: what the server has, the form, the run that is shown, and the ones before. */

import { type FormEvent, useCallback, useEffect, useMemo, useRef, useState } from "react";
import { Client, parseJson, StreamappError } from "streamapp-client";

import { type Send, sendFile } from "./form/upload";
import { Footer, Hero } from "./hero";
import { useKeptFocus } from "./parts/focus";
import { Guard } from "./parts/guard";
import { Traceback, tracebackOf } from "./parts/traceback";
import { Playground } from "./playground";
import { useReadiness } from "./runs/ready";
import { sentenceOf } from "./runs/remedies";
import { type About, aboutsOf, type Endpoint, endpointsOf } from "./runs/schema";
import { keep, recall } from "./runs/storage";
import { ThemeButton } from "./theme";

const KEY = "streamapp:key";
const MAY_BE_SENT = /^[\t\x20-\xff]*$/; // in a header
// The page is at {server}/playground.
const SERVER = location.origin + location.pathname.replace(/\/playground\/?$/, "");

interface Api {
  title: string;
  abouts: Record<string, About>;
  endpoints: Endpoint[];
}

/** The whole page. */
export function Page() {
  const [key, setKey] = useState(() => recall("sessionStorage", KEY) ?? ""); // kept for this tab only
  const [isChangingKey, setChangingKey] = useState(false);
  const [api, setApi] = useState<Api>();
  const told = useRef<string>(undefined);
  const [failure, setFailure] = useState<Error>();
  const sent = MAY_BE_SENT.test(key) ? key : ""; // what no header can hold is no server's key
  const client = useMemo(() => new Client(SERVER, { ...(sent && { key: sent }), largeIntegers: "bigint" }), [sent]);
  const headers = useMemo(() => headersWith(sent), [sent]);

  const load = useCallback(async () => {
    try {
      const text = await documentOf(headers);
      if (text !== told.current) setApi(apiOf(text)); // else the forms stay as they are
      told.current = text;
      setFailure(undefined);
    } catch (error) {
      const { code } = error as Partial<StreamappError>;
      if (code !== "connection_failed" || told.current === undefined) setFailure(error as Error); // that nobody answers is said elsewhere
    }
  }, [headers]);
  useEffect(() => {
    load();
    const look = () => void load(); // `--reload` is faster than the page asks: one comes back from one's editor
    addEventListener("focus", look);
    return () => removeEventListener("focus", look);
  }, [load]);
  const readiness = useReadiness(SERVER, headers, load); // started anew it may have other endpoints

  useKeptFocus();

  const takeKey = (text: string) => {
    keep("sessionStorage", KEY, text);
    setKey(text);
    setChangingKey(false);
  };
  const upload = useCallback<Send>((file, name, watch) => sendFile(SERVER, headers, file, name, watch), [headers]);
  const isRefused = isUnauthorized(failure);
  const tools = (
    <>
      {key !== "" && !isRefused && <button type="button" className="quiet" aria-expanded={isChangingKey} onClick={() => setChangingKey(!isChangingKey)}>API key</button>}
      <a className="quiet" href={`${SERVER}/docs`}>API docs</a>
      <ThemeButton />
    </>
  );
  const notice = isRefused || isChangingKey ? (
    <KeyCard value={isRefused ? "" : key} problem={isRefused && key !== "" ? "The server does not take this API key." : ""} onChange={takeKey} />
  ) : failure && <Failure error={failure} onRetry={load} />;
  return api ? (
    <Guard><Playground {...api} {...{ client, upload, readiness, tools, notice }} server={SERVER} hasKey={key !== ""} /></Guard>
  ) : (
    <>
      <Hero title="streamapp" description="" tools={tools} />
      <main className="alone">{notice}</main>
      <Footer server={SERVER} />
    </>
  );
}

function Failure({ error, onRetry }: { error: Error; onRetry: () => void }) {
  return (
    <div role="alert" className="card notice">
      <h2>The app could not be loaded</h2>
      <p>{sentenceOf(error)}</p>
      <Traceback text={tracebackOf(error)} />
      <button type="button" onClick={onRetry}>Try again</button>
    </div>
  );
}

function isUnauthorized(error: Error | undefined): boolean {
  return error instanceof StreamappError && error.status === 401;
}

interface KeyCardProps {
  value: string;
  /** What is wrong with the one that was given. */
  problem: string;
  onChange: (text: string) => void;
}

/** Ask for the key; one that is not taken has to be written anew. */
function KeyCard({ value, problem, onChange }: KeyCardProps) {
  const [text, setText] = useState(value);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    onChange(text.trim());
  };
  return (
    <form className="card notice" onSubmit={submit}>
      <h2>This server asks for an API key</h2>
      {problem && <p role="alert" className="bad">{problem}</p>}
      <label className="unseen" htmlFor="key">API key</label>
      <div className="line">
        <input id="key" type="password" autoComplete="off" autoFocus placeholder="API key" value={text} aria-invalid={problem !== ""}
          onChange={({ target }) => setText(target.value)} />
        <button type="submit" className="main">Continue</button>
      </div>
      <p className="note">It is kept for this tab only. Whoever runs the server has it: its STREAMAPP_API_KEY.</p>
    </form>
  );
}

function headersWith(key: string): Record<string, string> {
  return key ? { Authorization: `Key ${key}` } : {};
}

async function documentOf(headers: Record<string, string>): Promise<string> {
  const response = await fetch(`${SERVER}/openapi.json`, { headers }).catch(() => undefined);
  if (!response) throw new StreamappError("connection_failed", "The server does not answer.");
  const { ok, status, statusText } = response;
  const text = await response.text();
  const document = parsed(text);
  if (ok && document) return text;
  throw new StreamappError("refused", document?.error?.message ?? `The server answered HTTP ${status} ${statusText}`, { status, data: document });
}

function apiOf(text: string): Api {
  const document = parsed(text);
  return { title: document.info.title, abouts: aboutsOf(document), endpoints: endpointsOf(document) };
}

/** Read JSON; undefined where it is none: what a proxy says. */
function parsed(text: string): any {
  try {
    return parseJson(text);
  } catch {
    return undefined;
  }
}
