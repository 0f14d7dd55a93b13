/** Say what to do about an error. */

import type { StreamappError } from "streamapp-client";

const REMEDIES: Record<string, string> = {
  invalid_input: "Change the input as it says, then run it again.",
  malformed_request: "Correct the input, then run it again.",
  payload_too_large: "Use a smaller file; the limit is the server's STREAMAPP_MAX_BODY_BYTES.",
  unauthorized: "Type the server's API key into the field at the top.",
  queue_full: "Many jobs wait already. Run it again in a moment.",
  queue_timeout: "It waited too long for its turn. Run it again when the server is less busy.",
  deadline_exceeded: "It took longer than the server allows. Ask for less, or raise the endpoint's timeout_s.",
  out_of_memory: "Ask for smaller or fewer results, then run it again.",
  endpoint_failed: "The app failed. Another input may work; what it raised stands in the server's log.",
  not_encodable: "The app returned something that has no JSON form. The server's log says what.",
  setup_failed: "The app could not be set up. The server's log says why.",
  draining: "The server is shutting down. Run it again when it is back.",
  worker_stuck: "The app does not come to an end. The server has to be started anew.",
  job_not_found: "The server keeps a job only for some time. Its inputs are in the form if it was run here: run it again.",
  connection_failed: "The server cannot be reached. Is it running? Then run it again.",
  stream_interrupted: "The connection was lost for too long. Look at the job in the history, or run it again.",
};

/** Return a sentence that tells what to do. */
export function remedyFor({ code, retryable, detail, data }: StreamappError): string {
  if (data?.error?.traceback) {
    return code === "setup_failed" ? "The traceback says where." : "The traceback says where; another input may work.";
  }
  if (code === "invalid_input" && Array.isArray(detail)) return "Correct the fields that are marked, then run it again.";
  return REMEDIES[code] ?? (retryable ? "It may work later: run it again in a moment." : "The server's log may say more.");
}
