/** The page: what the server has, the form, the run that is shown, and the ones before. */

import { type ReactNode, useCallback, useEffect, useMemo, useState } from "react";
import { Client, parseJson, StreamappError } from "streamapp-client";

import icon from "./icon.svg";
import { Traceback, tracebackOf } from "./parts";
import { Playground } from "./playground";
import { type About, aboutsOf, type Endpoint, endpointsOf } from "./schema";
import { useReadiness } from "./ready";
import { keep, recall } from "./storage";
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
  const [api, setApi] = useState<Api>();
  const [failure, setFailure] = useState<Error>();
  const sent = MAY_BE_SENT.test(key) ? key : ""; // what no header can hold is no server's key
  const client = useMemo(() => new Client(SERVER, { ...(sent && { key: sent }), largeIntegers: "bigint" }), [sent]);
  const headers = useMemo(() => headersWith(sent), [sent]);

  const load = useCallback(async () => {
    try {
      setApi(await describe(headers));
      setFailure(undefined);
    } catch (error) {
      setFailure(error as Error);
    }
  }, [headers]);
  useEffect(() => void load(), [load]);
  const readiness = useReadiness(SERVER, headers, load); // started anew it may have other endpoints

  const takeKey = (text: string) => {
    keep("sessionStorage", KEY, text);
    setKey(text);
  };
  const upload = useCallback((file: Blob, name: string) => send(file, name, headers), [headers]);
  const asksKey = key !== "" || isUnauthorized(failure);
  return (
    <>
      <header>
        <img src={icon} alt="" />
        <h1>{api?.title ?? "streamapp"}</h1>
        {asksKey && <KeyField value={key} onChange={takeKey} />}
        <a href={`${SERVER}/docs`}>API docs</a>
        <ThemeButton />
      </header>
      <main>
        {failure && <Failure error={failure} hasKey={key !== ""} onRetry={load} />}
        {api && <Playground key={SERVER} {...api} {...{ client, upload, readiness }} server={SERVER} hasKey={key !== ""} />}
      </main>
      <footer><a href={`${SERVER}/playground/LICENSES.txt`}>Licences of what this page is made of</a></footer>
    </>
  );
}

interface FailureProps {
  error: Error;
  hasKey: boolean;
  onRetry: () => void;
}

function Failure({ error, hasKey, onRetry }: FailureProps): ReactNode {
  if (isUnauthorized(error)) {
    const problem = hasKey ? "The server does not take this API key." : "This server asks for an API key.";
    return <p role="alert" className="error">{problem} Type it in at the top; it is kept for this tab only.</p>;
  }
  return (
    <div role="alert" className="error">
      <p>The server does not say what it serves: {error.message}</p>
      <Traceback text={tracebackOf(error)} />
      <button type="button" onClick={onRetry}>Try again</button>
    </div>
  );
}

function isUnauthorized(error: Error | undefined): boolean {
  return error instanceof StreamappError && error.status === 401;
}

function KeyField({ value, onChange }: { value: string; onChange: (text: string) => void }) {
  const [text, setText] = useState(value);
  return (
    <form className="key-field" onSubmit={(event) => { event.preventDefault(); onChange(text.trim()); }}>
      <label htmlFor="key">API key</label>
      <input id="key" type="password" autoComplete="off" value={text} onChange={({ target }) => setText(target.value)}
        onBlur={() => onChange(text.trim())} />
    </form>
  );
}

function headersWith(key: string): Record<string, string> {
  return key ? { Authorization: `Key ${key}` } : {};
}

async function describe(headers: Record<string, string>): Promise<Api> {
  const response = await fetch(`${SERVER}/openapi.json`, { headers });
  const { ok, status, statusText } = response;
  const document = parsed(await response.text());
  if (ok && document) return { title: document.info.title, abouts: aboutsOf(document), endpoints: endpointsOf(document) };
  throw new StreamappError("refused", document?.error?.message ?? `HTTP ${status} ${statusText}`, { status, data: document });
}

/** Read JSON; undefined where it is none: what a proxy says. */
function parsed(text: string): any {
  try {
    return parseJson(text);
  } catch {
    return undefined;
  }
}

/** Put a file into the server's store. */
async function send(file: Blob, name: string, own: Record<string, string>): Promise<string> {
  const type = file.type || "application/octet-stream";
  const headers = { ...own, "Content-Type": type, "X-Fal-File-Name": encodeURIComponent(name) };
  const response = await fetch(`${SERVER}/rest/files/upload`, { method: "POST", headers, body: file });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error?.message ?? response.statusText);
  return answer.access_url;
}
