/** Follow one job: what has come of it so far, for the page to draw. */

import { type Client, type JobHandle, type JobStatus, type Stream, type StreamEvent, StreamappError } from "streamapp-client";

import { type Piece, piecesOf, typeOf } from "./answer";
import { type Content, contentsOf, sizeOf, textOf } from "./content";
import { addressed, type Endpoint } from "./schema";

export type Status = "queued" | "running" | "reconnecting" | "succeeded" | "cancelled" | "failed";

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

/** An event that is shown as JSON. */
export interface Output {
  name: string;
  data: unknown;
}

export interface LogLine {
  message: string;
  level: string;
}

const POLL_MS = 500;
// What is drawn of long streams; the counts tell the rest.
const MOST_ARRIVALS = 1000;
const MOST_OUTPUTS = 200;
const MOST_FRAMES = 300;
const MOST_LOGS = 2000;

/** One job as this page sees it; `subscribe` tells, at most once per drawn picture, that it has changed. */
export class Run {
  status: Status = "queued";
  jobId: string | undefined;
  /** How many jobs wait before this one; undefined until the server has said it. */
  position: number | undefined;
  error: StreamappError | undefined;
  result: any;

  arrivals: Arrival[] = [];
  count = 0;
  frames: Frame[] = [];
  /** The newest content of each slot that outputs, not previews, have brought. */
  results = new Map<string, Content>();
  text = "";
  /** Whether the text is to be shown as it is, not as Markdown. */
  isPlain = false;
  /** The status and type of an answer that the endpoint has made itself. */
  answer: string | undefined;
  outputs: Output[] = [];
  /** How many there were; `outputs` has the newest. */
  outputCount = 0;
  logs: LogLine[] = [];
  progress: { step: number; total?: number | null; message?: string } | undefined;
  skipped = 0;

  readonly startedAt = performance.now();
  runningAt: number | undefined;
  firstAt: number | undefined;
  endedAt: number | undefined;
  /** Rises with every change. */
  version = 0;

  #client: Client;
  #job: JobHandle | undefined;
  #stream: Stream | undefined;
  #left = new AbortController();
  #textKind: string | undefined;
  #listeners = new Set<() => void>();
  #drawing = 0;

  private constructor(
    client: Client,
    readonly endpoint: Endpoint | undefined,
    /** Undefined when another page has started it. */
    readonly input: Record<string, unknown> | undefined,
    /** Whether it was started by this page, which so sees all of it as it happens. */
    readonly isOwn: boolean,
  ) {
    this.#client = client;
  }

  /** Start a job. */
  static start(client: Client, endpoint: Endpoint, input: Record<string, unknown>): Run {
    const run = new Run(client, endpoint, input, true);
    if (endpoint.kind === "response") run.#read(endpoint, input);
    else run.#follow(() => run.#begin(endpoint, input));
    return run;
  }

  /** Look at a job that exists, as one more viewer. */
  static watch(client: Client, jobId: string, endpoint?: Endpoint, input?: Record<string, unknown>): Run {
    const run = new Run(client, endpoint, input, false);
    run.#follow(() => run.#join(client.job(jobId)));
    return run;
  }

  get isOver(): boolean {
    return this.endedAt !== undefined;
  }

  /** Call a function when there is something new; returns what stops that. */
  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** End the job; a viewer may as well as the one who started it. */
  async cancel(): Promise<void> {
    this.#left.abort(); // a job whose answer has not come yet is cancelled when it has
    this.#end("cancelled");
    await Promise.all([this.#stream?.cancel(), this.#job?.cancel()]);
  }

  async #begin(endpoint: Endpoint, input: Record<string, unknown>): Promise<Stream> {
    const { path, body } = addressed(endpoint, input);
    if (endpoint.kind === "stream") return this.#client.stream(path, { input: body });
    return this.#join(await this.#client.submit(path, { input: body })); // it has events too: progress, logs, previews
  }

  async #join(job: JobHandle): Promise<Stream> {
    this.jobId = job.id;
    this.#job = job;
    return job.events();
  }

  async #follow(open: () => Promise<Stream>): Promise<void> {
    try {
      const stream = await open();
      this.#stream = stream;
      this.jobId = stream.jobId;
      if (this.#left.signal.aborted) await this.cancel();
      this.#watchQueue();
      stream.on("reconnecting", () => this.#set("reconnecting"));
      stream.on("reconnected", () => this.#set("running"));
      for await (const event of stream) this.#take(event);
      this.result = await stream.done();
      this.#end("succeeded");
    } catch (error) {
      this.#fail(error instanceof StreamappError ? error : new StreamappError("failed", String(error)));
    }
  }

  /** Read an answer of the endpoint's own, which no log has: it is read by this page alone, and once. */
  async #read(endpoint: Endpoint, input: Record<string, unknown>): Promise<void> {
    try {
      this.#set("running"); // or it waits: nobody says so before the answer begins
      const { path, body } = addressed(endpoint, input);
      const response = await this.#client.fetch(path, { input: body, signal: this.#left.signal });
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
    if ("text" in piece) return this.#note("text", piece.text, () => (this.text += piece.text));
    if ("file" in piece) return this.#note("file", piece.file.url, () => this.#fill(contentsOf(piece.file)));
    const { name, data } = piece;
    this.#note(name, data, () => this.#output(name, data));
    this.result = data;
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
    else if (name === "progress") this.progress = data;
    else if (name === "log") this.#log(data);
    else if (name === "lagged") this.skipped += data.skipped;
    else if (name === "restarted") this.#restart();
    else this.#output(name, data);
  }

  #preview(data: any): void {
    if (typeof data?.step === "number") this.progress = { ...this.progress, step: data.step, total: data.total };
    const contents = contentsOf(data).map((content) => ({ ...content, slot: slotOf(content.slot, data?.key) }));
    const last = this.frames.at(-1);
    const others = last?.kind === "preview" ? last.contents.filter(({ slot }) => !contents.some((own) => own.slot === slot)) : [];
    const all = [...others, ...contents].sort((a, b) => a.slot.localeCompare(b.slot, "en", { numeric: true }));
    if (contents.length) this.#keep({ kind: "preview", step: data?.step, contents: all });
  }

  #output(name: string, data: unknown): void {
    const piece = textOf(data);
    this.#textKind ??= piece?.kind;
    if (piece && piece.kind === this.#textKind) this.text += piece.text === this.text ? "" : piece.text;
    else if (piece?.text !== this.text) this.#keepOutput({ name, data });
    this.#fill(contentsOf(data));
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

  #keep(frame: Frame): void {
    this.frames = [...this.frames.slice(1 - MOST_FRAMES), frame];
  }

  #log({ message = "", level = "INFO" }: any): void {
    this.logs = [...this.logs.slice(1 - MOST_LOGS), { message, level }];
  }

  /** The job was run again after a crash: what the first attempt brought does not count. */
  #restart(): void {
    this.results.clear();
    this.text = "";
    this.#textKind = undefined;
    this.outputs = [];
    this.outputCount = 0;
    this.frames = [];
  }

  #fail(error: StreamappError): void {
    this.error ??= this.isOver ? undefined : error;
    this.#end(error.code === "cancelled" ? "cancelled" : "failed");
  }

  #end(status: Status): void {
    if (this.isOver) return;
    this.endedAt = performance.now();
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
    this.#drawing ||= requestAnimationFrame(() => {
      this.#drawing = 0;
      for (const listener of this.#listeners) listener();
    });
  }
}

/** Tell apart what several keys show side by side. */
function slotOf(slot: string, key: unknown): string {
  return key === undefined || key === "" ? slot : `${key}.${slot}`;
}
