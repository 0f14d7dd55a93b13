/** Show a conversation: what was said, the answer as it is made, and what one says next. */

import { type FormEvent, type KeyboardEvent, memo, type ReactNode, useMemo, useRef, useState } from "react";
import { parseJson, stringifyJson } from "streamapp-client";

import { AttachButton, Picture, useAttaching } from "../form/attach";
import { Icon, IconButton } from "../parts/icon";
import { textIn } from "../runs/choices";
import { filledIn } from "../runs/desk";
import type { Run } from "../runs/run";
import type { Endpoint, Input } from "../runs/schema";
import { inputWith, type Message, messageOf, messagesIn, pictureOf, type Talk, withImage, withoutPart, withText } from "../runs/talk";
import type { Call, Choice } from "../runs/words";
import { Follow } from "../show/follow";
import { TextTools, Written } from "../show/text";

const MOST_UNFOLDED = 200; // characters of instructions
const REASONS: Record<string, string> = {
  length: "It stopped at its limit of tokens.",
  content_filter: "A filter held the rest back.",
};

interface ChatViewProps {
  /** That of the run, or, where there is none, the one that is chosen. */
  endpoint: Endpoint;
  talk: Talk;
  /** What the form holds: what is said next goes out with its other fields. */
  input: Input;
  run: Run | undefined;
  onSend: (input: Input) => void;
  /** What stands there before anything has been said. */
  welcome: ReactNode;
}

/** A conversation; it stays the same element from one answer to the next, so that one can go on writing. */
export function ChatView({ endpoint, talk, input, run, onSend, welcome }: ChatViewProps) {
  const filled = useMemo(() => filledIn(endpoint, input), [endpoint, input]);
  const [draft, setDraft] = useState<{ of: Run | undefined; content: unknown }>();
  const [chosen, choose] = useState({ of: run, place: 0 });
  const said = run?.said.at(-1);
  const place = chosen.of === run ? Math.min(chosen.place, Math.max(0, (said?.choices.length ?? 0) - 1)) : 0;
  const isSession = endpoint.kind === "session";
  const all = talk.list === undefined && run ? saidIn(run, talk) : messagesIn(talk, said ? said.input : filled);
  const isAnswered = said !== undefined && !said.isEmpty;
  const isOpen = run !== undefined && !run.isOver; // an answer may come
  const left = isAnswered || isOpen ? undefined : unanswered(talk, all); // it can be said anew
  const before = left ? all.slice(0, -1) : all;
  const content = draft?.of === run && draft ? draft.content : (left?.content ?? "");

  const canTalk = run ? (isSession ? run.takesInputs : run.input !== undefined) : !isSession;
  const send = () => {
    const answer = isAnswered && talk.list !== undefined ? [messageOf(talk, said.choices[place]!)] : [];
    onSend(inputWith(talk, filled, [...before, ...answer], content, left));
    if (isSession) setDraft({ of: run, content: "" });
  };
  const of = `${run?.startedAt} ${run?.said.length}`;
  return (
    <section className="chat" aria-label="Conversation">
      {before.length === 0 && !run ? welcome : (
        <Follow role="log" label="What was said" of={of}>
          <ol className="turns">
            {before.map((message, n) => <Turn key={n} message={message} user={talk.user} assistant={talk.assistant} />)}
            {run && said && (isAnswered || isOpen) && (
              <Answer key={of} choices={said.choices} place={place} choose={(next) => choose({ of: run, place: next })}
                isGrowing={isSession ? isOpen && !isAnswered : isOpen} />
            )}
          </ol>
        </Follow>
      )}
      {canTalk && (
        <Composer content={content} takesImages={talk.takesImages} isBusy={isOpen && !isSession} isStopping={run?.isCancelling ?? false}
          isFirst={before.length === 0} onChange={(next) => setDraft({ of: run, content: next })} onSend={send} onStop={() => run!.cancel()} />
      )}
    </section>
  );
}

function unanswered({ user }: Talk, messages: Message[]): Message | undefined {
  const last = messages.at(-1);
  return last?.role === user ? last : undefined;
}

/** Return what was said in a session, but for the newest answer. */
function saidIn({ said }: Run, talk: Talk): Message[] {
  return said.flatMap(({ input, choices: [answer] }, n) => {
    const answers = answer && n < said.length - 1 ? [messageOf(talk, answer)] : [];
    return [...messagesIn(talk, input), ...answers];
  });
}

/** One message that was said before. */
const Turn = memo(function Turn({ message, user, assistant }: { message: Message; user: string; assistant: string }) {
  const { role, content, name, tool_calls: calls } = message;
  const text = textIn(content);
  if (role === user) {
    return (
      <li className="turn by-user">
        <Speaker name={name} role="You" isSeen={name !== undefined && name !== ""} />
        {Array.isArray(content) && content.map(pictureOf).map((url, n) => url && <Picture key={n} url={url} name={`picture ${n + 1}`} />)}
        {text && <p className="bubble">{text}</p>}
      </li>
    );
  }
  if (role === assistant) {
    return (
      <li className="turn">
        <Speaker name={name} role="The model" />
        <Reply text={text} calls={Array.isArray(calls) ? calls.map(callOf) : []} isGrowing={false} />
      </li>
    );
  }
  const title = role === "tool" ? `Result of ${name ?? "the tool"}` : String(role ?? "");
  const isFolded = role === "tool" || text.length > MOST_UNFOLDED;
  return <li className="turn aside"><Aside title={title} text={text || stringifyJson(content)} isFolded={isFolded} /></li>;
});

function callOf(call: any): Call {
  const { name = "", arguments: given = "" } = call?.function ?? {};
  return { id: call?.id, name, arguments: typeof given === "string" ? given : stringifyJson(given) };
}

function Speaker({ name, role, isSeen = false }: { name: unknown; role: string; isSeen?: boolean }) {
  return <span className={isSeen ? "speaker" : "unseen"}>{String(name || role)}</span>;
}

/** What the system says, and tools, small. */
function Aside({ title, text, isFolded }: { title: string; text: string; isFolded: boolean }) {
  if (!isFolded) return <p><b>{title}</b> {text}</p>;
  return <details><summary>{title}</summary><pre tabIndex={0}>{text}</pre></details>;
}

interface AnswerProps {
  choices: Choice[];
  place: number;
  choose: (place: number) => void;
  isGrowing: boolean;
}

/** The newest message, of which there may be several. */
function Answer({ choices, place, choose, isGrowing }: AnswerProps) {
  const { text, calls, reason } = choices[place] ?? { text: "", calls: [], reason: undefined };
  const isOpen = isGrowing && reason === undefined;
  const last = choices.length - 1;
  return (
    <li className="turn newest" aria-busy={isOpen}>
      <Speaker name="" role="The model" />
      <Reply {...{ text, calls }} isGrowing={isOpen} note={REASONS[reason ?? ""]}>
        {last > 0 && (
          <span className="pager" role="group" aria-label="Choices">
            <IconButton name="The choice before" sign="before" isOff={place === 0} onClick={() => choose(place - 1)} />
            <span aria-live="polite">{place + 1} of {last + 1}</span>
            <IconButton name="The next choice" sign="after" isOff={place === last} onClick={() => choose(place + 1)} />
          </span>
        )}
      </Reply>
    </li>
  );
}

interface ReplyProps {
  text: string;
  calls: Call[];
  isGrowing: boolean;
  note?: string;
  /** What stands before its tools. */
  children?: ReactNode;
}

/** What the model says, and the tools that it calls. */
function Reply({ text, calls, isGrowing, note, children }: ReplyProps) {
  const [isPlain, setPlain] = useState(false);
  const isShown = text !== "" || (isGrowing && !calls.length);
  return (
    <>
      {isShown && <Written {...{ text, isPlain }} isGrowing={isGrowing && !calls.length} />}
      {calls.map((call, n) => <ToolCall key={n} call={call} />)}
      <div className="line tools">
        {children}
        {text && !isGrowing && <TextTools {...{ text, isPlain, setPlain }} />}
        {note && !isGrowing && <span className="note">{note}</span>}
      </div>
    </>
  );
}

function ToolCall({ call }: { call: Call }) {
  return (
    <details className="call">
      <summary>Calls <code>{call.name}</code></summary>
      <pre tabIndex={0}>{indented(call.arguments)}</pre>
    </details>
  );
}

function indented(json: string): string {
  try {
    return stringifyJson(parseJson(json), 2);
  } catch {
    return json; // it has not come whole, or is none
  }
}

interface ComposerProps {
  content: unknown;
  takesImages: boolean;
  /** Whether an answer is being made, which can be stopped. */
  isBusy: boolean;
  isStopping: boolean;
  isFirst: boolean;
  onChange: (content: unknown) => void;
  onSend: () => void;
  onStop: () => void;
}

/** Where one writes what is said next. */
function Composer({ content, takesImages, isBusy, isStopping, isFirst, onChange, onSend, onStop }: ComposerProps) {
  const field = useRef<HTMLTextAreaElement>(null);
  const attaching = useAttaching((url) => onChange(withImage(content, url)));
  const text = textIn(content);
  const pictures = Array.isArray(content) ? content.flatMap((part, n) => (pictureOf(part) ? [{ n, url: pictureOf(part)! }] : [])) : [];
  const isEmpty = !text.trim() && !pictures.length;
  const send = (event: FormEvent) => {
    event.preventDefault();
    if (isBusy || isEmpty) return;
    onSend();
    field.current!.focus();
  };
  const sendByKey = (event: KeyboardEvent<HTMLTextAreaElement>) => {
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    event.preventDefault();
    if (!event.repeat) event.currentTarget.form!.requestSubmit();
  };
  return (
    <form className="composer" onSubmit={send} onPaste={takesImages ? attaching.paste : undefined}>
      {pictures.length > 0 && (
        <div className="line">
          {pictures.map(({ n, url }, at) => (
            <Picture key={n} url={url} name={`picture ${at + 1}`} onRemove={() => onChange(withoutPart(content as unknown[], n))} />
          ))}
        </div>
      )}
      {attaching.note && <p className="note" role="status">{attaching.note}</p>}
      <div className="row">
        {takesImages && <AttachButton name="Attach a picture" take={attaching.take} />}
        <textarea ref={field} rows={1} aria-label="Your message" placeholder={isFirst ? "Write a message" : "Reply"} value={text}
          onKeyDown={sendByKey} onChange={({ target }) => onChange(withText(content, target.value))} />
        {isBusy ? (
          <button key="stop" type="button" className="round" aria-label="Stop" title="Stop" disabled={isStopping} onClick={onStop}>
            <Icon sign="stop" />
          </button>
        ) : (
          <button key="send" type="submit" className="main round" aria-label="Send" title="Send (Enter)" disabled={isEmpty}>
            <Icon sign="up" />
          </button>
        )}
      </div>
    </form>
  );
}
