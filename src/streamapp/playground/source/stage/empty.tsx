/** The stage before anything has been run: what to begin with. */

import { type ReactNode, useMemo } from "react";

import type { Past } from "../runs/history";
import type { Endpoint, Input } from "../runs/schema";
import { Thumb, thumbOf } from "../show/thumb";
import { type Example, examplesOf, isSame } from "./examples";

const MOST_RECENT = 6;
const MOST_COLUMNS = 3;

interface EmptyProps {
  endpoint: Endpoint;
  input: Input;
  pasts: Past[];
  /** Whether it is a conversation that begins. */
  isTalk: boolean;
  /** Put an example into the form. */
  onExample: (input: Input) => void;
  /** Show a past run. */
  onShow: (jobId: string) => void;
}

/** Examples; where there are none what was made before; where that is nothing either a word of welcome. */
export function Empty({ endpoint, input, pasts, isTalk, onExample, onShow }: EmptyProps) {
  const examples = useMemo(() => examplesOf(endpoint, pasts), [endpoint, pasts]);
  const recent = pasts.filter(({ path, status }) => path === endpoint.path && status === "succeeded").slice(0, MOST_RECENT);
  if (examples.length) {
    return (
      <Cards title={examples.length > 1 ? "Begin with an example" : "An example to begin with"} hint={`Choose ${examples.length > 1 ? "one" : "it"} to fill in the form, then press ${endpoint.kind === "session" ? "Connect" : "Run"}.`} count={examples.length}>
        {examples.map((example, n) => (
          <ExampleCard key={n} example={example} isChosen={isSame(endpoint, example.input, input)} onChoose={() => onExample(example.input)} />
        ))}
      </Cards>
    );
  }
  if (recent.length) {
    return (
      <Cards title="Recent" hint="Made here before." count={recent.length}>
        {recent.map((past) => (
          <li key={past.jobId}>
            <button type="button" className="example" onClick={() => onShow(past.jobId)}>
              <Thumb {...thumbOf(past)} />
              <span className="facts">{new Date(past.at).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" })}</span>
            </button>
          </li>
        ))}
      </Cards>
    );
  }
  return isTalk && endpoint.kind !== "session" ? <p className="blank">Write a message to begin.</p> : <Welcome endpoint={endpoint} />;
}

interface CardsProps {
  title: string;
  hint: string;
  count: number;
  children: ReactNode;
}

function Cards({ title, hint, count, children }: CardsProps) {
  const columns = count === 4 ? 2 : Math.min(count, MOST_COLUMNS); // none stands alone in a row
  return (
    <section className="beginnings" aria-label={title}>
      <h2>{title}</h2>
      <p className="note">{hint}</p>
      <ul ref={(list) => void list?.style.setProperty("--columns", String(columns))}>{children}</ul>
    </section>
  );
}

interface ExampleCardProps {
  example: Example;
  isChosen: boolean;
  onChoose: () => void;
}

function ExampleCard({ example: { words, facts, picture }, isChosen, onChoose }: ExampleCardProps) {
  return (
    <li>
      <button type="button" className="example" aria-current={isChosen} onClick={onChoose}>
        {picture && <img className="thumb" src={picture} alt="" draggable={false} />}
        <span className={picture ? "caption" : "saying"}>{words}</span>
        {facts.length > 0 && <span className="facts">{facts.join(" · ")}</span>}
      </button>
    </li>
  );
}

const SHOWN_HERE = "What it makes is shown here while it is being made.";
const WELCOME: Partial<Record<Endpoint["kind"], string>> = {
  session: `Fill in the form and press Connect; then send it as often as you like. ${SHOWN_HERE}`,
  socket: "This is a WebSocket of the app's own, which a form cannot speak. Code shows how to open it.",
};

/** What there is to do; above it an empty frame, and what may come into it. */
function Welcome({ endpoint: { kind } }: { endpoint: Endpoint }) {
  return (
    <div className="welcome">
      <svg viewBox="0 0 120 80" aria-hidden="true">
        <rect x="24" y="10" width="72" height="56" rx="8" />
        <path d="M24 54l18-17 14 13 10-8 30 20M52 74h16" />
        <circle cx="76" cy="28" r="6" />
        <path className="spark" d="M104 8v8M100 12h8M14 30v6M11 33h6M108 54v6M105 57h6" />
      </svg>
      <p className="blank">{WELCOME[kind] ?? `Fill in the form and press Run. ${SHOWN_HERE}`}</p>
    </div>
  );
}
