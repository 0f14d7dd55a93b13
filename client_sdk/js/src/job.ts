/** Follow jobs that run on without readers. */

import { Deadline, type Limits } from "./deadline.js";
import { StreamappError } from "./errors.js";
import { sleep } from "./patience.js";
import type { JobStatus, Server } from "./server.js";
import type { Stream } from "./stream.js";

const FIRST_POLL_MS = 50;
const LONGEST_POLL_MS = 1000;

/** Hold a job that runs on without readers. */
export class JobHandle<Result = any> {
  readonly id: string;
  #server: Server;

  /** @internal */
  constructor(server: Server, id: string) {
    this.#server = server;
    this.id = id;
  }

  /** Ask for its state. */
  async status(limits: Limits = {}): Promise<JobStatus> {
    return new Deadline(limits).hold((signal) => this.#server.status("GET", this.id, signal));
  }

  /**
   * Return its events, from the first one that is kept; leaving them early does not cancel the job.
   *
   * `after` is the id of the last event seen.
   */
  async events({ after, ...limits }: Limits & { after?: string } = {}): Promise<Stream<Result>> {
    return this.#server.stream({ jobId: this.id, after }, limits);
  }

  /** Wait for its end, and return its result, or throw what it failed with. */
  async result(limits: Limits = {}): Promise<Result> {
    return new Deadline(limits).hold(async (signal) => {
      for (let wait = FIRST_POLL_MS; ; wait = longer(wait)) {
        try {
          return await this.#server.ask("GET", `${this.id}/result`, signal);
        } catch (error) {
          if (!(error instanceof StreamappError && error.code === "job_unfinished")) throw error;
          await sleep(wait, signal);
        }
      }
    });
  }

  /** End it; without effect on a job that is over. */
  async cancel(): Promise<JobStatus> {
    return new Deadline({}).hold((signal) => this.#server.status("POST", `${this.id}/cancel`, signal));
  }
}

/** Tell each change of a job's state and place, and, if `logs`, its new log lines; returns when it is over. */
export async function follow(
  job: JobHandle,
  tell: (status: JobStatus) => void,
  logs: boolean,
  signal: AbortSignal,
): Promise<void> {
  let status = await job.status({ signal });
  tell(status);
  for (let wait = FIRST_POLL_MS; !isOver(status) && !(logs && status.status === "running"); wait = longer(wait)) {
    await sleep(wait, signal);
    const seen = status;
    status = await job.status({ signal });
    const isNews = status.status !== seen.status || status.position !== seen.position;
    if (isNews && !(logs && isOver(status))) tell(status);
  }
  if (!logs) return;
  const stream = await job.events({ signal });
  stream.on("log", (line) => tell({ ...status, logs: [line] }));
  await stream.done().catch(() => signal.throwIfAborted()); // the job's failure; its result says it
  tell(await job.status({ signal }));
}

function isOver({ status }: JobStatus): boolean {
  return status !== "queued" && status !== "running";
}

function longer(wait: number): number {
  return Math.min(wait * 1.5, LONGEST_POLL_MS);
}
