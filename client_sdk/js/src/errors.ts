/** Define the error that everything here throws, and read what a server said into it. */

/** What went wrong: the server's word, or, in the first line, ours. */
export type ErrorCode =
  | "connection_failed" | "stream_interrupted" | "session_ended" | "unexpected_answer" | "refused"
  | "malformed_request" | "unauthorized" | "not_found" | "job_not_found" | "job_unfinished" | "payload_too_large"
  | "invalid_input" | "queue_full" | "cancelled" | "endpoint_failed" | "not_encodable" | "internal_error"
  | "unavailable" | "draining" | "setup_failed" | "out_of_memory" | "worker_stuck"
  | "deadline_exceeded" | "queue_timeout"
  | (string & {});

interface Facts {
  retryable?: boolean | undefined;
  detail?: any;
  status?: number | undefined;
  retryAfter?: number | undefined;
  jobId?: string | undefined;
  data?: any;
  cause?: unknown;
}

const RETRYABLE: ReadonlySet<ErrorCode> = new Set(["connection_failed", "stream_interrupted", "queue_full", "unavailable"]);

/** Say what went wrong; `code` tells one kind from another. */
export class StreamappError extends Error {
  override readonly name = "StreamappError";
  readonly code!: ErrorCode;
  /** Whether the same request can succeed later. */
  readonly retryable!: boolean;
  /** What stood under `detail` in the answer; for `invalid_input` the list of the wrong fields. */
  readonly detail!: any;
  /** The HTTP status; undefined when the error came as an event, or from this side. */
  readonly status!: number | undefined;
  /** Seconds to wait before the next try, if the server said so. */
  readonly retryAfter!: number | undefined;
  /** The job, once it has one. */
  readonly jobId!: string | undefined;
  /** The whole body of the answer, or the whole data of the event. */
  readonly data!: any;

  constructor(code: ErrorCode, message: string, facts: Facts = {}) {
    super(message, { cause: facts.cause });
    Object.assign(this, facts, { code, retryable: facts.retryable ?? RETRYABLE.has(code) });
  }
}

// What a status means where no code is given: by a proxy, or another server. Of a job that ran too long one is given.
const BY_STATUS: Record<number, ErrorCode> = {
  400: "malformed_request",
  401: "unauthorized",
  403: "unauthorized",
  404: "not_found",
  409: "job_unfinished",
  413: "payload_too_large",
  422: "invalid_input",
  429: "queue_full",
  499: "cancelled",
  500: "endpoint_failed",
  502: "unavailable",
  503: "unavailable",
  504: "unavailable",
};

/** Read an answer with an error status, and its body; any server's, any proxy's. */
export function errorFromResponse(response: Response, text: string, parse: (text: string) => any): StreamappError {
  const wait = response.headers.get("Retry-After") ?? "";
  return errorFrom(read(text, parse), `HTTP ${response.status} ${response.statusText}: ${text.slice(0, 200)}`, {
    status: response.status,
    retryAfter: /^\d+$/.test(wait) ? Number(wait) : undefined, // else a date: only proxies send it
    jobId: response.headers.get("X-Streamapp-Job-Id") ?? undefined,
  });
}

/** Read the data of an `error` or `cancelled` event, or of a job that failed. */
export function errorFromEvent(name: string, data: any, jobId: string | undefined): StreamappError {
  return errorFrom(data, `The job ended with the event "${name}"`, { jobId });
}

/** Streamapp's form, FastAPI's and fal's, or none of them. */
function errorFrom(body: any, fallback: string, facts: Facts): StreamappError {
  const error = body?.error;
  const code = error?.code ?? body?.error_type ?? BY_STATUS[facts.status!] ?? "refused";
  const message = [error?.message, body?.detail, error].find((text) => typeof text === "string") ?? fallback;
  return new StreamappError(code, message, { ...facts, retryable: error?.retryable, detail: body?.detail, data: body });
}

function read(text: string, parse: (text: string) => any): any {
  try {
    return parse(text);
  } catch {
    return text;
  }
}
