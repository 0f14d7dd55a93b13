/** The page: what the server has, the form, the run that is shown, and the ones before. */

import { type ReactNode, useCallback, useEffect, useMemo, useState } from "react";
import { Client, parseJson, StreamappError } from "streamapp-client";

import icon from "./icon.svg";
import { Playground } from "./playground";
import { type Endpoint, endpointsOf } from "./schema";
import { keep, recall } from "./storage";
import { ThemeButton } from "./theme";

const KEY = "streamapp:key";
// The page is at {server}/playground.
const SERVER = location.origin + location.pathname.replace(/\/playground\/?$/, "");

interface Api {
  title: string;
  endpoints: Endpoint[];
}

/** The whole page. */
export function Page() {
  const [key, setKey] = useState(() => recall("sessionStorage", KEY) ?? ""); // kept for this tab only
  const [api, setApi] = useState<Api>();
  const [failure, setFailure] = useState<Error>();
  const client = useMemo(() => new Client(SERVER, { ...(key && { key }), largeIntegers: "bigint" }), [key]);

  const load = useCallback(async () => {
    try {
      setApi(await describe(key));
      setFailure(undefined);
    } catch (error) {
      setFailure(error as Error);
    }
  }, [key]);
  useEffect(() => void load(), [load]);

  const takeKey = (text: string) => {
    keep("sessionStorage", KEY, text);
    setKey(text);
  };
  const upload = useCallback((file: Blob, name: string) => send(file, name, key), [key]);
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
        {api && <Playground key={SERVER} {...api} {...{ client, upload }} server={SERVER} hasKey={key !== ""} />}
      </main>
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

async function describe(key: string): Promise<Api> {
  const response = await fetch(`${SERVER}/openapi.json`, { headers: headersWith(key) });
  const document = parseJson(await response.text());
  const { ok, status, statusText } = response;
  if (!ok) throw new StreamappError("refused", document.error?.message ?? statusText, { status });
  return { title: document.info.title, endpoints: endpointsOf(document) };
}

/** Put a file into the server's store. */
async function send(file: Blob, name: string, key: string): Promise<string> {
  const type = file.type || "application/octet-stream";
  const headers = { ...headersWith(key), "Content-Type": type, "X-Fal-File-Name": encodeURIComponent(name) };
  const response = await fetch(`${SERVER}/rest/files/upload`, { method: "POST", headers, body: file });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error?.message ?? response.statusText);
  return answer.access_url;
}
