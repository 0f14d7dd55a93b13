/** Show a stream in a React component. */

import { useCallback, useEffect, useRef, useState } from "react";

import type { Client, StreamOptions } from "./client.js";
import type { StreamEvent } from "./conversation.js";
import { either } from "./deadline.js";
import type { Stream } from "./stream.js";

/** What the component shows; all of it is of the last stream that was started. */
export interface StreamState<Result = any> {
  status: "idle" | "running" | "succeeded" | "failed" | "cancelled";
  /** The last event. */
  event?: StreamEvent;
  /** The data of the last preview, output and progress. */
  preview?: any;
  output?: any;
  progress?: any;
  /** What `stream.done()` returned. */
  result?: Result;
  /** What it threw. */
  error?: unknown;
}

export interface StreamCalls {
  /** Start a stream; one that runs is cancelled. */
  start: (input?: unknown, options?: Omit<StreamOptions, "input">) => void;
  /** Cancel the stream that runs. */
  cancel: () => void;
}

/** Return the state of a stream and the functions that start and cancel it; unmounting cancels. */
export function useStream<Result = any>(client: Client, path: string): StreamState<Result> & StreamCalls {
  const [state, setState] = useState<StreamState<Result>>({ status: "idle" });
  const running = useRef<AbortController>(undefined);

  const stop = useCallback(() => running.current?.abort(), []);
  useEffect(() => stop, [stop]);

  const start = useCallback<StreamCalls["start"]>(
    (input, options) => {
      stop();
      const controller = new AbortController();
      running.current = controller;
      // A stream that was replaced, or whose component is gone, shows nothing any more.
      const show = (change: (state: StreamState<Result>) => StreamState<Result>) => {
        if (!controller.signal.aborted) setState(change);
      };
      show(() => ({ status: "running" }));
      const signal = options?.signal ? either(options.signal, controller.signal) : controller.signal;
      client
        .stream<Result>(path, { ...options, input, signal })
        .then((stream) => showAll(stream, (event) => show((state) => ({ ...state, ...shown(event) }))))
        .then((result) => show((state) => ({ ...state, status: "succeeded", result })))
        .catch((error) => show((state) => ({ ...state, status: isCancel(error, signal) ? "cancelled" : "failed", error })));
    },
    [client, path, stop],
  );

  const cancel = useCallback(() => {
    stop();
    setState((state) => (state.status === "running" ? { ...state, status: "cancelled" } : state));
  }, [stop]);

  return { ...state, start, cancel };
}

function isCancel(error: any, signal: AbortSignal): boolean {
  return signal.aborted || error.code === "cancelled";
}

async function showAll<Result>(stream: Stream<Result>, show: (event: StreamEvent) => void): Promise<Result> {
  for await (const event of stream) show(event);
  return stream.done();
}

function shown(event: StreamEvent): Partial<StreamState> {
  const { name, data } = event;
  return name === "preview" || name === "output" || name === "progress" ? { event, [name]: data } : { event };
}
