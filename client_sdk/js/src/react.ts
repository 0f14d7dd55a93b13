/** Show a stream, or a session, in a React component. */

import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";

import type { Client, ConnectOptions, StreamOptions } from "./client.js";
import type { StreamEvent } from "./conversation.js";
import { either } from "./deadline.js";
import type { Session } from "./session.js";
import type { Stream } from "./stream.js";

// Before the effects of all components; where a server renders there are none, and React 18 complains of the other.
const useFirstEffect = globalThis.document ? useLayoutEffect : useEffect;

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

/** What the component shows of a session; all of it is of the last one. */
export interface SessionState<Output = any> {
  status: "idle" | "connecting" | "open" | "reconnecting" | "succeeded" | "failed" | "cancelled";
  /** The last event. */
  event?: StreamEvent;
  /** The data of the last preview, output and progress. */
  preview?: any;
  output?: Output;
  progress?: any;
  /** What was wrong with the last input that was answered. */
  inputError?: any;
  /** What a <video> shows of a session by WebRTC. */
  video?: MediaStream | null;
  /** What has ended the session early. */
  error?: unknown;
}

export interface SessionCalls<Input = any> {
  /** Send an input; without a session one is opened, unless the component is gone. Resolves as `session.send` does. */
  send: (input: Input) => Promise<number | undefined>;
  /** Say that no more inputs come. */
  finish: () => void;
  /** Cancel the session that is open. */
  cancel: () => void;
}

/** Return the state of a session and the functions that feed and end it; unmounting cancels. */
export function useSession<Input = any, Output = any>(
  client: Client,
  path: string,
  { newest = false, webrtc = false }: Pick<ConnectOptions, "newest" | "webrtc"> = {},
): SessionState<Output> & SessionCalls<Input> {
  const [state, setState] = useState<SessionState<Output>>({ status: "idle" });
  const running = useRef<Session<Input, Output>>(undefined);

  const leave = useCallback(() => {
    running.current?.cancel();
    running.current = undefined;
  }, []);
  useEffect(() => () => {
    leave();
    setState({ status: "idle" });
  }, [client, path, newest, webrtc, leave]);
  const isGone = useRef(false);
  useFirstEffect(() => {
    isGone.current = false;
    return () => void (isGone.current = true);
  }, []);

  const open = useCallback(() => {
    const session = client.connect<Input, Output>(path, { newest, webrtc });
    running.current = session;
    // A session that was left shows nothing any more.
    const show = (change: Partial<SessionState<Output>>) => {
      if (running.current === session) setState((state) => ({ ...state, ...change }));
    };
    const end = (change: Partial<SessionState<Output>>) => {
      show(change);
      if (running.current === session) running.current = undefined;
    };
    setState({ status: "connecting", video: session.video });
    for (const name of ["connected", "reconnected"] as const) session.on(name, () => show({ status: "open" }));
    session.on("reconnecting", () => show({ status: "reconnecting" }));
    session.on("input_error", (inputError) => show({ inputError }));
    session.on("data", (_, event) => show(event.name === "output" ? { ...shown(event), inputError: undefined } : shown(event)));
    session.done().then(() => end({ status: "succeeded" }), (error) => end({ status: error.code === "cancelled" ? "cancelled" : "failed", error }));
    return session;
  }, [client, path, newest, webrtc]);

  const send = useCallback(
    (input: Input) => (isGone.current ? Promise.resolve(undefined) : (running.current ?? open()).send(input)),
    [open],
  );
  const finish = useCallback(() => running.current?.finish(), []);
  const cancel = useCallback(() => {
    if (running.current) setState((state) => ({ ...state, status: "cancelled" }));
    leave();
  }, [leave]);
  return { ...state, send, finish, cancel };
}

function isCancel(error: any, signal: AbortSignal): boolean {
  return signal.aborted || error.code === "cancelled";
}

async function showAll<Result>(stream: Stream<Result>, show: (event: StreamEvent) => void): Promise<Result> {
  for await (const event of stream) show(event);
  return stream.done();
}

function shown(event: StreamEvent): Pick<StreamState, "event" | "preview" | "output" | "progress"> {
  const { name, data } = event;
  return name === "preview" || name === "output" || name === "progress" ? { event, [name]: data } : { event };
}
