/** Send files to the server, one after the other: how far each is, why one did not arrive, and none that is not wanted. */

import { createContext, useContext, useEffect, useRef, useState } from "react";
import { StreamappError } from "streamapp-client";

import { remember } from "../runs/sent";

/** What a sender may want to know, and to end. */
export interface Watch {
  /** Told how much has left, 0 to 1. */
  onShare?: (share: number) => void;
  signal?: AbortSignal;
}

/** Send a file to the server, and return the URL that stands for it in an input. */
export type Send = (file: Blob, name: string, watch?: Watch) => Promise<string>;

export const Upload = createContext<Send>(async () => "");

/** Put a file into the server's store; `fetch` would not tell how much has left. */
export function sendFile(server: string, own: Record<string, string>, file: Blob, name: string, { onShare, signal }: Watch = {}): Promise<string> {
  const headers = { ...own, "Content-Type": file.type || "application/octet-stream", "X-Fal-File-Name": encodeURIComponent(name) };
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `${server}/rest/files/upload`);
    for (const [header, value] of Object.entries(headers)) request.setRequestHeader(header, value);
    request.responseType = "json";
    request.upload.onprogress = ({ loaded, total }) => onShare?.(total && loaded / total);
    request.onload = () => (request.response?.access_url ? resolve(request.response.access_url) : reject(refused(request)));
    request.onerror = () => reject(new StreamappError("connection_failed", "the server was not reached"));
    request.onabort = () => reject(signal!.reason);
    signal?.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

function refused({ status, statusText, response }: XMLHttpRequest): StreamappError {
  const { code = "refused", message = `the server answers ${status} ${statusText}` } = response?.error ?? {};
  return new StreamappError(code, message, { status, data: response });
}

/** A file on its way, or one that did not arrive. */
export interface Parcel {
  id: number;
  file: File;
  /** Where it can be seen before it is there. */
  url: string;
  share: number;
  /** Why it did not arrive, and what to do. */
  problem: string;
  leaving: AbortController;
}

const REMEDIES: Record<string, string> = {
  connection_failed: "Check that it is running, then try again.",
  payload_too_large: "Choose a smaller one.",
  unauthorized: "Check the API key, then try again.",
};
let count = 0;

/** Send files, and give the URL of each when it is there; what is under way ends with the field. */
export function useParcels(onArrival: (url: string) => void) {
  const send = useContext(Upload);
  const [parcels, setParcels] = useState<Parcel[]>([]);
  const arrived = useRef(onArrival);
  arrived.current = onArrival;
  const turn = useRef(Promise.resolve());
  const open = useRef(new Set<Parcel["leaving"]>());
  useEffect(() => () => open.current.forEach((leaving) => leaving.abort()), []);

  const put = (parcel: Parcel) => setParcels((all) => all.map((one) => (one.id === parcel.id ? parcel : one)));
  const drop = ({ id, url, leaving }: Parcel) => {
    leaving.abort();
    open.current.delete(leaving);
    URL.revokeObjectURL(url);
    setParcels((all) => all.filter((one) => one.id !== id));
  };
  const deliver = async (parcel: Parcel) => {
    const { file, leaving: { signal } } = parcel;
    if (signal.aborted) return;
    try {
      const url = await send(file, file.name, { signal, onShare: (share) => put({ ...parcel, share }) });
      remember(url, file);
      arrived.current(url);
      drop(parcel);
    } catch (error) {
      const { message, code } = error as StreamappError;
      if (!signal.aborted) put({ ...parcel, problem: `${message.replace(/\.$/, "")}. ${REMEDIES[code] ?? ""}` });
    }
  };
  const begin = (parcel: Parcel) => void (turn.current = turn.current.then(() => deliver(parcel)));
  return {
    parcels,
    /** Call one off, or forget it. */
    drop,
    add: (files: File[]) => {
      const added = files.map((file) => ({ id: ++count, file, url: URL.createObjectURL(file), share: 0, problem: "", leaving: new AbortController() }));
      added.forEach(({ leaving }) => open.current.add(leaving));
      setParcels((all) => [...all, ...added]);
      added.forEach(begin);
    },
    retry: (parcel: Parcel) => {
      put({ ...parcel, problem: "", share: 0 });
      begin(parcel);
    },
  };
}
