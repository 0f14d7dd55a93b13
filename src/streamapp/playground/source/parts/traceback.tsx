/** Show where an app has failed, to whom its server tells it. */

import type { StreamappError } from "streamapp-client";

/** The traceback that an error has from a server that debugs. */
export function tracebackOf(error: Error): unknown {
  return (error as Partial<StreamappError>).data?.error?.traceback;
}

/** The traceback of a failure, where there is one, to be unfolded. */
export function Traceback({ text }: { text: unknown }) {
  if (typeof text !== "string") return null;
  return (
    <details>
      <summary>Traceback</summary>
      <pre tabIndex={0}>{text}</pre>
    </details>
  );
}
