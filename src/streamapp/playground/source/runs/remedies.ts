/** Say what went wrong, and what to do. */

import type { StreamappError } from "streamapp-client";

const REMEDIES: Record<string, string> = {
  invalid_input: "Change the input as it says, then run it again.",
  malformed_request: "Change the input, then run it again.",
  download_timeout: "Run it again, or upload the file instead of giving its URL.",
  payload_too_large: "Use smaller files, or ask whoever runs the server to raise the limit.",
  unauthorized: "Enter the server's API key again, at the top of the page.",
  queue_full: "Too many runs are waiting. Run it again in a moment.",
  queue_timeout: "The server is busy. Run it again a little later.",
  deadline_exceeded: "Ask for less, then run it again. If it does need that long, raise the endpoint's timeout_s.",
  out_of_memory: "Ask for something smaller, or for fewer at once, then run it again.",
  gpu_failed: "Run it again in a moment. If that does not help, the server's log says more.",
  storage_full: "Run it again later, or with smaller files.",
  endpoint_failed: "Something went wrong inside the app. Another input may work.",
  not_encodable: "Whoever wrote the app has to change what it returns.",
  setup_failed: "Whoever runs the server has to mend the app, and start it again.",
  draining: "The server is shutting down. Run it again when it is back.",
  worker_stuck: "The app hangs. Whoever runs the server has to restart it.",
  job_not_found: "It keeps runs only for some time. If you ran it here, its inputs are in the form: run it again.",
  connection_failed: "Check that the server is running, then run it again.",
  stream_interrupted: "It may still be running. Choose it in the history to look, or run it again.",
};
// What the traceback of a server that debugs says better.
const TRACED: ReadonlySet<string> = new Set(["endpoint_failed", "setup_failed"]);

/** Return a sentence that tells what to do. */
export function remedyFor(error: StreamappError): string {
  const { code, retryable, detail, data } = causeOf(error);
  const isTraced = data?.error?.traceback !== undefined;
  if (isTraced && TRACED.has(code)) return "The traceback says where.";
  if (code === "invalid_input" && Array.isArray(detail)) return "Correct the fields that are marked, then run it again.";
  return REMEDIES[code] ?? (retryable ? "Run it again in a moment." : "The server's log may say more.");
}

/** Whether there is more to say of it than its HTTP status. */
export function isKnown({ code }: StreamappError): boolean {
  return code in REMEDIES;
}

// What the server says for programs, of which some lines are no use to people.
const SENTENCES: Record<string, string> = {
  job_not_found: "The server does not have this run any more",
  queue_timeout: "It waited too long for its turn",
  unauthorized: "The API key is missing or wrong",
};

/** Return what an error says as a sentence; the name of a field, with a colon behind it, stays as it is. */
export function sentenceOf(error: Error & { code?: string }): string {
  const { code, message } = causeOf(error);
  const sentence = SENTENCES[code ?? ""] ?? message;
  return /^[a-z]+[ ,]/.test(sentence) ? sentence[0]!.toUpperCase() + sentence.slice(1) : sentence;
}

/** Return what is behind an error: a stream that broke off as the server, started anew, does not know its run is none to come back to. */
function causeOf<Failure extends Error & { code?: string }>(error: Failure): Failure {
  const cause = error.cause as Failure | undefined;
  return error.code === "stream_interrupted" && cause?.code === "job_not_found" ? cause : error;
}
