/** Follow jobs that run on without readers. */

import { Deadline, type Limits } from "./deadline.js";
import { StreamappError } from "./errors.js";
import { sleep } from "./patience.js";
import { type JobStatus, type Server, statusOf } from "./server.js";
import type { Stream } from "./stream.js";

const FIRST_POLL_MS = 50;
const LONGEST_POLL_MS = 1000;

/** Hold a job that runs on without readers. */
export class JobHandle<Result = any> {
  readonly id: string;
  #server: Server;
  #path: string;

  /** @internal */
  constructor(server: Server, id: string) {
    this.#server = server;
    this.id = id;
    this.#path = encodeURIComponent(id);
  }

  /** Ask for its state. */
  async status(limits: Limits = {}): Promise<JobStatus> {
    return new Deadline(limits).hold((signal) => this.#server.status("GET", this.#path, signal));
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
          return await this.#server.ask("GET", `${this.#path}/result`, signal);
        } catch (error) {
          if (!(error instanceof StreamappError && error.code === "job_unfinished")) throw error;
          await sleep(wait, signal);
        }
      }
    });
  }

  /** End it; without effect on a job that is over. */
  async cancel(): Promise<JobStatus> {
    return new Deadline({}).hold((signal) => this.#server.status("POST", `${this.#path}/cancel`, signal));
  }
}

/**
 * Tell each change of a job's state and place, and, if `logs`, its new log lines; return its result or throw its error.
 *
 * All of it comes in one stream; an older server does not say there how the job goes on: it is asked at the end.
 */
export async function follow<Result>(
  server: Server,
  job: JobHandle<Result>,
  tell: (status: JobStatus) => void,
  logs: boolean,
  signal: AbortSignal,
): Promise<Result> {
  let told = {} as JobStatus; // or would have been, had anything changed
  let end: JobStatus | undefined; // comes before the last events, which are told first
  const tellChange = (state: JobStatus) => {
    if (told.status !== state.status || told.position !== state.position) tell(state);
    told = state;
  };
  const stream = await server.stream({ jobId: job.id, follows: true }, { signal });
  const events = stream[Symbol.asyncIterator]();
  // What the job failed with is the end of its events; its result says it.
  for (let step; (step = await events.next().catch(() => undefined)) && !step.done; ) {
    const { name, data } = step.value;
    if (name === "job") {
      const state = statusOf(data);
      if (state.status === "queued" || state.status === "running") tellChange(state);
      else end = state;
    } else {
      // The job ran and ended before it was looked at, or by a server that tells states without times, and only once.
      if (told.status !== "running" && (end || !told.created_at)) {
        const { error, ...ran } = end ?? told;
        tellChange({ ...ran, status: "running", position: 0, finished_at: null });
      }
      if (logs && name === "log") tell({ ...told, logs: [data] });
    }
  }
  tellChange(end?.created_at ? end : await job.status({ signal }));
  // The last event may be a part of a text, which is asked for; so is an array, which has `at` as well.
  return stream.done().catch(String).then((last: any) => (last?.at ? job.result({ signal }) : (last ?? null)));
}

function longer(wait: number): number {
  return Math.min(wait * 1.5, LONGEST_POLL_MS);
}
