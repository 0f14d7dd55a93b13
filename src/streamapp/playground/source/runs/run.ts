/** Follow one job: what has come of it so far, for the page to draw. */

import { type Client, type JobStatus, type Session, type Stream, type StreamEvent, StreamappError } from "streamapp-client";

import { type Piece, piecesOf, typeOf } from "./answer";
import { choicesOf } from "./choices";
import { type Chunk, chunkOf, type Content, contentsOf, sizeOf, textOf } from "./content";
import { sendable } from "./multipart";
import { addressed, type Endpoint, type Input } from "./schema";
import { Sound } from "./sound";
import { inTurn } from "./turns";
import { Words } from "./words";

export type Status = "sought" | "queued" | "running" | "reconnecting" | "succeeded" | "cancelled" | "failed";

/** What can be looked at again: a preview, or a result that was replaced. */
export interface Frame {
  kind: "preview" | "result";
  step?: number | undefined;
  contents: Content[];
}

/** When an event came, in milliseconds of `performance.now()`, and how large it was. */
export interface Arrival {
  name: string;
  at: number;
  bytes: number;
}

/** How far a job is: steps, words, and what a handler of Runpod's kind gave as its progress. */
export interface Progress {
  step?: number | undefined;
  total?: number | null | undefined;
  message?: string;
  output?: unknown;
}

/** An event that is shown as JSON. */
export interface Output {
  name: string;
  data: unknown;
}

export interface LogLine {
  message: string;
  level: string;
  /** In milliseconds since 1970. */
  at: number;
}

const POLL_MS = 500;
// A page that nobody sees is not drawn; its title and the history are to tell how it goes all the same.
const UNSEEN_MS = 1000;
// How long a cancel may wait for its job's id, or for a connection to tell it by.
const LEAVING_MS = 2000;
// The server does not answer: the job may run on.
const LOST: ReadonlySet<string> = new Set(["connection_failed", "stream_interrupted"]);
// What is drawn of long streams; the counts tell the rest.
const MOST_ARRIVALS = 1000;
const MOST_OUTPUTS = 200;
const MOST_FRAMES = 300;
const MOST_FRAME_BYTES = 64e6;
const MOST_LOGS = 2000;
const MOST_MARKS = 9; // the pace is that of eight steps

/** One job as this page sees it; `subscribe` tells, at most once per drawn picture, that it has changed. */
export class Run {
  status: Status = "queued";
  jobId: string | undefined;
  /** Whether the server has been asked for it; until then it waits for other runs of this page. */
  isSent = false;
  /** Whether the server is being told to end it; it may be over before. */
  isCancelling = false;
  /** How many jobs wait before this one; undefined until the server has said it. */
  position: number | undefined;
  error: StreamappError | undefined;
  /** What is wrong with the newest input that was answered; the session goes on. */
  inputError: StreamappError | undefined;
  /** Whether a session has been told that no more inputs come. */
  isFinished = false;
  result: any;

  arrivals: Arrival[] = [];
  count = 0;
  frames: Frame[] = [];
  /** The newest content of each slot that outputs, not previews, have brought. */
  results = new Map<string, Content>();
  /** The sounds that outputs bring in chunks, by their slots. */
  sounds = new Map<string, Sound>();
  /** Previews have come behind a result: what outputs bring are parts, of which previews show the whole so far. */
  isPreviewed = false;
  text = "";
  /** What was said to each input: that of the run, or those that a session was sent. */
  said: Words[];
  /** Whether the text is to be shown as it is, not as Markdown. */
  isPlain = false;
  /** The status and type of an answer that the endpoint has made itself. */
  answer: string | undefined;
  outputs: Output[] = [];
  /** How many there were; `outputs` has the newest. */
  outputCount = 0;
  logs: LogLine[] = [];
  progress: Progress | undefined;
  /** When the newest steps were done: how fast it goes now. */
  marks: { step: number; at: number }[] = [];
  /** Which run of the job it is: one more each time that its worker was lost. */
  attempt = 1;
  skipped = 0;

  readonly startedAt = performance.now();
  runningAt: number | undefined;
  firstAt: number | undefined;
  endedAt: number | undefined;
  /** Rises with every change. */
  version = 0;

  #client: Client;
  #stream: Stream | undefined;
  #session: Session | undefined;
  #left = new AbortController();
  #isHungUp = false;
  #isHeard = false;
  #textKind: string | undefined;
  #frameBytes = new WeakMap<Frame, number>();
  #listeners = new Set<() => void>();
  #isDrawing = false;

  private constructor(
    client: Client,
    /** Undefined when another page has started it, until the server says which it is, and when the page has none such. */
    public endpoint: Endpoint | undefined,
    /** Undefined when another page has started it. */
    readonly input: Input,
    /** Whether it was started by this page, which so sees all of it as it happens. */
    readonly isOwn: boolean,
  ) {
    this.#client = client;
    this.said = endpoint?.kind === "session" ? [] : [new Words(input)];
  }

  /** Start a job; that of a session gets its inputs by `send`. */
  static start(client: Client, endpoint: Endpoint, input: Input): Run {
    const run = new Run(client, endpoint, input, true);
    if (endpoint.kind === "session") run.#begin(endpoint, input); // a WebSocket is none of the few connections
    else inTurn(() => run.#begin(endpoint, input));
    return run;
  }

  /** Look at a job that exists, as one more viewer; `find` gives the endpoint of a path, `past` is what is known of it. */
  static watch(client: Client, jobId: string, find: (path: string) => Endpoint | undefined, past?: { path: string; input: Input }): Run {
    const run = new Run(client, past && find(past.path), past?.input, false);
    run.jobId = jobId;
    run.status = "sought";
    run.isSent = true;
    run.#follow(() => run.#look(jobId, find));
    return run;
  }

  get isOver(): boolean {
    return this.endedAt !== undefined;
  }

  /** Whether this page has lost sight of the job before its end. */
  get isLost(): boolean {
    return this.error !== undefined && LOST.has(this.error.code);
  }

  /** Whether it is a session of this page that an input can be sent to. */
  get takesInputs(): boolean {
    return this.endpoint?.kind === "session" && this.isOwn && !this.isOver && !this.isCancelling && !this.isFinished;
  }

  /** Send a session an input; one that waits to be sent is replaced. */
  send(input: Input): void {
    this.inputError = undefined;
    this.said = [...this.said, new Words(input)];
    this.#session!.send(addressed(this.endpoint!, input).body);
    this.#change();
  }

  /** Tell a session that no more inputs come. */
  finish(): void {
    this.isFinished = true;
    this.#session!.finish();
    this.#change();
  }

  /** Call a function when there is something new; returns what stops that. */
  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /**
   * End the job; a viewer may as well as the one who started it.
   *
   * How it ended its log says: it may have been over before the server heard of this.
   */
  cancel(): void {
    if (this.isOver || this.isCancelling) return;
    this.isCancelling = true;
    this.#change();
    if (!this.isSent) this.#end("cancelled");
    else if (this.jobId !== undefined) this.#tellCancel(this.jobId);
    else if (this.#session || this.endpoint?.kind === "response") this.#left.abort(); // it has no id: the server hears that the page hangs up
    else setTimeout(() => this.jobId ?? this.#left.abort(), LEAVING_MS); // it is cancelled when its answer has come
  }

  async #tellCancel(jobId: string): Promise<void> {
    // Where the streams of several tabs hold all the connections that a browser opens to a server, this one makes way.
    const timer = setTimeout(() => this.#hangUp(), LEAVING_MS);
    try {
      const { status } = await this.#client.job(jobId).cancel();
      this.#isHeard = true;
      if (this.#isHungUp) this.#end(status);
    } catch (error) {
      const why = `The server could not be told to cancel the run, which may go on: ${(error as Error).message}`;
      this.#fail(new StreamappError("stream_interrupted", why, { jobId, cause: error }));
      this.#stream?.cancel(); // without a reader it ends, unless it is detached
    } finally {
      clearTimeout(timer);
    }
  }

  #hangUp(): void {
    this.#isHungUp = this.#stream !== undefined;
    this.#stream?.cancel();
  }

  async #begin(endpoint: Endpoint, input: Input): Promise<void> {
    if (this.isOver) return;
    this.isSent = true;
    this.#change();
    await (endpoint.kind === "response" ? this.#read(endpoint, input) : this.#follow(() => this.#open(endpoint, input)));
  }

  async #open(endpoint: Endpoint, input: Input): Promise<Stream> {
    const { path, body } = addressed(endpoint, input);
    const call = { input: await sendable(endpoint, body), signal: this.#left.signal };
    if (endpoint.kind === "session") return (this.#session = this.#client.connect(path, { newest: true, signal: call.signal }));
    if (endpoint.kind === "stream") return this.#client.stream(path, call);
    const job = await this.#client.submit(path, call); // it has events too: progress, logs, previews
    this.#know(job.id);
    return job.events();
  }

  async #look(jobId: string, find: (path: string) => Endpoint | undefined): Promise<Stream> {
    const job = this.#client.job(jobId);
    const { endpoint, status, position } = (await job.status()) as JobStatus & { endpoint: string };
    this.endpoint ??= find(endpoint);
    this.position = position;
    this.#set(status === "queued" ? "queued" : "running"); // or it is over: its events say how
    return job.events();
  }

  /** Take note of the job's id; until then nobody could be told to cancel it. */
  #know(jobId: string | undefined): void {
    if (jobId === undefined || this.jobId !== undefined) return;
    this.jobId = jobId;
    this.#change();
    if (this.isCancelling) this.#tellCancel(jobId);
  }

  async #follow(open: () => Promise<Stream>): Promise<void> {
    try {
      const stream = await open();
      this.#stream = stream;
      this.#know(stream.jobId);
      this.#watchQueue();
      stream.on("connected", () => this.#connected(stream.jobId)); // a session, which has its job only now
      stream.on("reconnecting", () => this.#set("reconnecting"));
      stream.on("reconnected", () => this.#set("running"));
      for await (const event of stream) this.#take(event);
      if (this.#isHungUp) return; // the answer to the cancel says how it ended
      this.result = await stream.done();
      this.#end("succeeded");
    } catch (error) {
      const failure = error instanceof StreamappError ? error : new StreamappError("failed", String(error));
      const isUnheard = this.isCancelling && !this.#isHeard && this.jobId !== undefined;
      if (isUnheard && LOST.has(failure.code)) this.#isHungUp = true; // whether the cancel arrives says more
      else this.#fail(failure);
    }
  }

  #connected(jobId: string | undefined): void {
    this.#know(jobId);
    this.#set("running");
  }

  /** Read an answer of the endpoint's own, which no log has: it is read by this page alone, and once. */
  async #read(endpoint: Endpoint, input: Input): Promise<void> {
    try {
      this.#set("running"); // or it waits: nobody says so before the answer begins
      const { path, body } = addressed(endpoint, input);
      const response = await this.#client.fetch(path, { input: await sendable(endpoint, body), signal: this.#left.signal });
      const type = typeOf(response);
      this.answer = `Answered ${response.status}${type && `, ${type}`}`;
      this.isPlain = type !== "text/event-stream" && type !== "text/markdown";
      for await (const piece of piecesOf(response)) this.#takePiece(piece);
      this.#end("succeeded");
    } catch (error) {
      const isRefused = error instanceof StreamappError;
      this.#fail(isRefused ? error : new StreamappError("failed", `The answer broke off: ${(error as Error).message}`));
    }
  }

  /** Ask for the place in the queue until the job runs. */
  async #watchQueue(): Promise<void> {
    while (this.status === "queued" && this.jobId !== undefined) {
      const status: JobStatus | undefined = await this.#client.job(this.jobId).status().catch(() => undefined);
      if (!status || this.status !== "queued") return;
      this.position = status.position;
      if (status.status !== "queued") return this.#set("running");
      this.#change();
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  #take({ name, data }: StreamEvent): void {
    this.#note(name, data, () => this.#sort(name, data));
  }

  /** Its events are the app's own, whatever they are called. */
  #takePiece(piece: Piece): void {
    if ("text" in piece) return this.#note("text", piece.text, () => this.#write(piece.text));
    if ("file" in piece) return this.#note("file", piece.file.url, () => this.#fill(contentsOf(piece.file)));
    const { name, data } = piece;
    this.#note(name, data, () => this.#output(name, data));
    this.result = data;
  }

  #write(text: string): void {
    this.text += text;
    this.said.at(-1)?.take({ text, index: 0 });
  }

  #note(name: string, data: unknown, show: () => void): void {
    if (this.isOver) return;
    const at = performance.now();
    this.firstAt ??= at;
    this.count++;
    this.arrivals.push({ name, at, bytes: sizeOf(data) });
    if (this.arrivals.length > 2 * MOST_ARRIVALS) this.arrivals = this.arrivals.slice(-MOST_ARRIVALS);
    show();
    this.#set("running");
  }

  #sort(name: string, data: any): void {
    if (name === "preview") this.#preview(data);
    else if (name === "progress") this.#progress(data);
    else if (name === "log") this.#log(data);
    else if (name === "lagged") this.skipped += data.skipped;
    else if (name === "restarted") this.#restart(data);
    else if (name === "input_error") this.#refuse(data);
    else this.#output(name, data);
  }

  #refuse({ error, detail, input }: any): void {
    this.inputError = new StreamappError(error.code, `Input ${input}: ${error.message}`, { detail, data: { error } });
  }

  #progress(data: any): void {
    this.progress = data;
    this.#mark(data?.step);
    this.#show(contentsOf(data?.output), data?.step);
  }

  #preview(data: any): void {
    if (typeof data?.step === "number") this.progress = { ...this.progress, step: data.step, total: data.total };
    this.#mark(data?.step);
    this.#show(contentsOf(data).map((content) => ({ ...content, slot: slotOf(content.slot, data?.key) })), data?.step);
  }

  #mark(step: unknown): void {
    const last = this.marks.at(-1)?.step ?? -1;
    if (typeof step !== "number" || step === last) return;
    this.marks = [...(step > last ? this.marks.slice(1 - MOST_MARKS) : []), { step, at: performance.now() }]; // one below it begins anew
  }

  /** Show contents in the place of those before them in their slots, beside the others. */
  #show(contents: Content[], step: number | undefined): void {
    const last = this.frames.at(-1);
    const others = last?.kind === "preview" ? last.contents.filter(({ slot }) => !contents.some((own) => own.slot === slot)) : [];
    const all = [...others, ...contents].sort((a, b) => a.slot.localeCompare(b.slot, "en", { numeric: true }));
    if (contents.length === 0) return;
    this.#keep({ kind: "preview", step, contents: all });
    this.isPreviewed ||= this.results.size > 0;
  }

  #output(name: string, data: unknown): void {
    this.inputError = undefined;
    if (this.endpoint?.kind === "session") this.isPreviewed = false; // they were of the input that this answers
    this.said.at(-1)?.take(data);
    const piece = textOf(data);
    this.#textKind ??= piece?.kind;
    if (piece && piece.kind === this.#textKind) this.text = piece.isWhole ?? piece.text === this.text ? piece.text : this.text + piece.text;
    else if (piece?.text !== this.text) this.#keepOutput({ name, data });
    const contents = choicesOf(data) ? [] : contentsOf(data); // they would be a table
    const chunk = chunkOf(data);
    this.#fill(chunk ? contents.filter(({ kind }) => kind !== "audio") : contents.map((content) => this.#complete(content)));
    for (const content of contents) if (chunk && content.kind === "audio") this.#hear(content.slot, { ...chunk, media: content.media });
  }

  /** Take a chunk of a sound; one that begins at 0 is the first of another. */
  #hear(slot: string, chunk: Chunk): void {
    let sound = chunk.startS > 0 ? this.sounds.get(slot) : undefined;
    if (!sound) {
      sound = new Sound(chunk.rate);
      sound.subscribe(() => this.#change());
      this.sounds.set(slot, sound);
    }
    sound.add(chunk);
  }

  /** Know what is all of a sound whose chunks have come before. */
  #complete(content: Content): Content {
    if (content.kind !== "audio") return content;
    const sound = [...this.sounds].find(([slot]) => slot === content.slot || content.slot.endsWith(`.${slot}`))?.[1];
    if (!sound || sound.file) return content;
    sound.file = content.media;
    sound.end();
    return { ...content, isHeard: true };
  }

  #fill(contents: Content[]): void {
    const replaced = contents.flatMap(({ slot }) => this.results.get(slot) ?? []);
    if (replaced.length) this.#keep({ kind: "result", contents: replaced });
    for (const content of contents) this.results.set(content.slot, content);
  }

  #keepOutput(output: Output): void {
    this.outputCount++;
    this.outputs = [...this.outputs.slice(1 - MOST_OUTPUTS), output];
  }

  /** Keep a frame, and of those before it as many as memory is meant for. */
  #keep(frame: Frame): void {
    this.#frameBytes.set(frame, sizeOf(frame.contents));
    let bytes = 0;
    const isTooMuch = (each: Frame) => (bytes += this.#frameBytes.get(each)!) > MOST_FRAME_BYTES;
    const before = this.frames.slice(1 - MOST_FRAMES);
    this.frames = [...before.slice(before.findLastIndex(isTooMuch) + 1), frame];
  }

  #log({ message = "", level = "INFO", timestamp }: any): void {
    this.logs = [...this.logs.slice(1 - MOST_LOGS), { message, level, at: Date.parse(timestamp) || Date.now() }];
  }

  /** The job was run again after a crash: what the first attempt brought does not count. */
  #restart({ attempt }: any): void {
    this.attempt = attempt;
    this.progress = undefined;
    this.marks = [];
    this.results.clear();
    this.sounds.clear();
    this.isPreviewed = false;
    this.text = "";
    for (const words of this.said) words.clear();
    this.#textKind = undefined;
    this.outputs = [];
    this.outputCount = 0;
    this.frames = [];
  }

  #fail(error: StreamappError): void {
    const isCancelled = error.code === "cancelled" || this.#left.signal.aborted;
    if (!this.isOver && !isCancelled) this.error = error;
    this.#end(isCancelled ? "cancelled" : "failed");
  }

  #end(status: Status): void {
    if (this.isOver) return;
    this.endedAt = performance.now();
    for (const sound of this.sounds.values()) sound.end();
    this.#set(status);
  }

  #set(status: Status): void {
    if (this.isOver && ["running", "reconnecting"].includes(status)) return;
    if (status === "running") this.runningAt ??= performance.now();
    this.status = status;
    this.#change();
  }

  #change(): void {
    this.version++;
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    const tell = () => {
      cancelAnimationFrame(frame);
      clearTimeout(timer);
      this.#isDrawing = false;
      for (const listener of this.#listeners) listener();
    };
    const frame = requestAnimationFrame(tell);
    const timer = setTimeout(tell, UNSEEN_MS);
  }
}

/** Tell apart what several keys show side by side. */
function slotOf(slot: string, key: unknown): string {
  return key === undefined || key === "" ? slot : `${key}.${slot}`;
}
