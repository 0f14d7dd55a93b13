/** The page of a server that has told what it serves: hero, form, stage, and what else there is to know. */

import { type ReactNode, useEffect, useReducer, useRef } from "react";
import type { Client } from "streamapp-client";

import { Buttons } from "./form/buttons";
import { EndpointForm } from "./form/form";
import { RawForm } from "./form/raw";
import { type Send, Upload } from "./form/upload";
import { Endpoints, Footer, Hero, INPUT } from "./hero";
import { Code } from "./panels/code";
import { Panels } from "./panels/panels";
import { Pasts } from "./panels/pasts";
import { Guard } from "./parts/guard";
import { type Desk, useDesk } from "./runs/desk";
import { useFrames } from "./runs/frames";
import { inputLink } from "./runs/link";
import type { Readiness } from "./runs/ready";
import type { Run } from "./runs/run";
import { type About, type Endpoint, type Fields, givenOnly, type Input } from "./runs/schema";
import { talkIn } from "./runs/talk";
import { ResultActions } from "./show/actions";
import { Prose } from "./show/text";
import { Actions } from "./stage/actions";
import { ChatView } from "./stage/chat";
import { useComparison } from "./stage/comparison";
import { deedsOf } from "./stage/deeds";
import { Empty } from "./stage/empty";
import { useSnapshot } from "./stage/snapshot";
import { Stage } from "./stage/stage";
import { type Standing, standingOf, standingOfServer } from "./stage/status";

interface PlaygroundProps {
  title: string;
  abouts: Record<string, About>;
  endpoints: Endpoint[];
  client: Client;
  server: string;
  hasKey: boolean;
  readiness: Readiness;
  upload: Send;
  /** What stands at the right of the title. */
  tools: ReactNode;
  /** What the server has to say before all else. */
  notice: ReactNode;
}

/** The whole page. */
export function Playground({ title, abouts, endpoints, client, server, hasKey, readiness, upload, tools, notice }: PlaygroundProps) {
  const desk = useDesk(client, endpoints, server);
  const { endpoint, input, run, wrong, pasts } = desk;
  const frames = useFrames(run);
  const stage = useRef<HTMLElement>(null);
  const standing: Standing = run
    ? told(standingOf(run, pasts, readiness), run, endpoint)
    : wrong ? { tone: "bad", words: "Not found", facts: [] } : standingOfServer(readiness);
  const comparison = useComparison(run, desk);
  useTitle(title, run, standing);
  useSnapshot(run, stage, desk.picture);
  if (!endpoint) {
    return (
      <>
        <Hero title={title} description="" tools={tools} />
        <main className="alone">{notice || <p role="alert" className="card notice">This app has no endpoint that a page could call.</p>}</main>
      </>
    );
  }
  const start = (one: Endpoint, given: Input) => {
    desk.start(one, given);
    bringIntoView(stage.current!);
  };
  const show = (jobId: string) => {
    desk.show(jobId);
    bringIntoView(stage.current!);
  };
  const clear = () => {
    desk.clear();
    bringIntoView(stage.current!);
  };
  const talker = run?.endpoint ?? endpoint;
  const talk = talkIn(talker, run);
  const say = (given: Input) => {
    if (talker === endpoint) desk.setInput(given);
    if (run?.takesInputs) run.send(given);
    else start(talker, given);
  };
  const about = abouts[endpoint.app];
  const deeds = deedsOf({ desk, endpoint, endpoints, comparison, upload, start });
  const actions = <Actions run={run} {...deeds} share={() => inputLink(endpoint.path, givenOnly(endpoint, input))} />;
  const empty = <Empty {...{ endpoint, input, pasts }} isTalk={talk !== undefined} onExample={deeds.onExample} onShow={show} />;
  const chat = talk && (
    <Guard key={talker.path}>
      <ChatView endpoint={talker} input={talker === endpoint ? input : run!.input} {...{ talk, run }} onSend={say} welcome={empty} />
    </Guard>
  );
  return (
    <Upload.Provider value={upload}>
      <Hero title={about?.title ?? title} description={about?.description ?? ""} tools={tools}>
        <Endpoints {...{ endpoints, abouts }} chosen={endpoint.path} onChoose={desk.choose} />
      </Hero>
      <main>
        {notice}
        <Form {...{ endpoint, desk, readiness, start }} />
        <div className="right">
          <ResultActions.Provider value={deeds.viewed}>
            <Stage {...{ run, frames, pasts, standing, readiness, wrong, empty, chat, actions }} instead={comparison.view} ref={stage} />
          </ResultActions.Provider>
          <Pasts pasts={pasts} shown={run?.jobId} isShown={run !== undefined} runOf={desk.runOf} onChoose={show} onNew={clear} onForget={desk.forget} />
          <Panels {...{ run, frames }} code={<Guard key={endpoint.path}><Code {...{ server, hasKey, endpoint, input }} /></Guard>} />
        </div>
      </main>
      <Footer server={server} />
    </Upload.Provider>
  );
}

interface FormProps {
  endpoint: Endpoint;
  desk: Desk;
  readiness: Readiness;
  start: (endpoint: Endpoint, input: Input) => void;
}

/** What is to be filled in, and the button that starts. */
function Form({ endpoint, desk, readiness, start }: FormProps) {
  const { input, run } = desk;
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
  const takesInput = kind !== "socket";
  const form = { id: "form", onChange: setInput, onRun: begin };
  return (
    <section aria-label="Input" id={INPUT} className="card input">
      <div className="line heading">
        <h2>Input</h2>
        <span className="note path">{path}</span>
        {takesInput && !endpoint.isRaw && <button type="button" className="quiet" aria-pressed={isRaw} onClick={toggleRaw}>Raw JSON</button>}
      </div>
      {description && <div className="note"><Prose text={description} /></div>}
      {takesInput && (endpoint.isRaw || isRaw
        ? <RawForm key={path} input={input} {...form} />
        : (
          <Guard key={path} instead={<RawForm input={input} {...form} />}>
            <EndpointForm input={input as Fields} schema={schema} error={own?.error ?? own?.inputError} {...form} />
          </Guard>
        ))}
      {takesInput && <Buttons form={form.id} {...{ endpoint, run, session, readiness, isLive }} onLive={toggleLive} />}
    </section>
  );
}

/** Say where a run comes from that is not the chosen endpoint's. */
function told(standing: Standing, { endpoint }: Run, chosen: Endpoint | undefined): Standing {
  return endpoint && endpoint.path !== chosen?.path ? { ...standing, facts: [`from ${endpoint.path}`, ...standing.facts] } : standing;
}

/** Let the tab's title tell how the run is going. */
function useTitle(title: string, run: Run | undefined, { words }: Standing): void {
  const { step = 0, total } = run?.progress ?? {};
  const share = run && (run.status === "running" && total ? `${Math.round((100 * step) / total)} %` : words);
  useEffect(() => {
    document.title = share ? `${share} · ${title}` : title;
  }, [share, title]);
}

/** On a narrow page the stage is above the button, and anywhere one may have scrolled past it. */
function bringIntoView(element: Element): void {
  const { top } = element.getBoundingClientRect();
  if (top < 0 || top > innerHeight / 2) element.scrollIntoView();
}
