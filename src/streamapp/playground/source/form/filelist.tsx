/** The field of several files; its value is a list of their URLs. */

import type { WidgetProps } from "@rjsf/utils";
import { type DragEvent, useRef, useState } from "react";

import { IconButton } from "../parts/icon";
import type { MediaKind, MediaList } from "../runs/schema";
import { nameOf } from "../runs/sent";
import { Drop, WORDS } from "./drop";
import { familyOf } from "./known";
import { Look } from "./look";
import { Awaited, Failed, type ParcelProps, Track, useAwaited } from "./parcels";
import { useParcels } from "./upload";

const TILE = "application/x-streamapp-tile";

/** The widget of a list of media. */
export function MediaListInput({ id, schema, value, onChange }: WidgetProps) {
  const { items: { media: kind, isSent }, minItems: least = 0, maxItems: most = Infinity, default: preset } = schema as MediaList;
  const urls: string[] = (value ?? []).map((one: any) => one?.url ?? one).filter(Boolean);
  const newest = useRef(urls);
  newest.current = urls;
  const [said, say] = useState("");
  const [problem, setProblem] = useState("");
  const put = (all: string[]) => {
    newest.current = all;
    onChange(all.length || preset ? all : undefined);
  };
  const { parcels, add, drop, retry } = useParcels((url) => put([...newest.current, url]));
  const isHeldUp = useAwaited(id, parcels);
  const room = most - urls.length - parcels.length;
  const several = WORDS[kind][1];

  const within = <Thing,>(things: Thing[]): Thing[] => {
    const left = things.length - room;
    setProblem(left > 0 ? `At most ${most} ${several} go in here: ${left} ${left === 1 ? "was" : "were"} left out.` : "");
    return things.slice(0, Math.max(0, room));
  };
  const move = (from: number, to: number) => {
    if (to < 0 || to >= urls.length || from === to) return;
    const rest = urls.toSpliced(from, 1);
    put(rest.toSpliced(to, 0, urls[from]!));
    say(`${nameOf(urls[from]!)} is now ${to + 1} of ${urls.length}.`);
  };
  const remove = (at: number) => {
    put(urls.toSpliced(at, 1));
    setProblem("");
    say(`${nameOf(urls[at]!)} is removed.`);
    document.getElementById(id)!.focus();
  };
  const isEmpty = !urls.length && !parcels.length;
  const tiles = urls.map((url, at) => ({ url, key: `${url} ${urls.slice(0, at).filter((other) => other === url).length}` }));
  return (
    <>
      <Drop id={id} kind={kind} isMany isAsking={isEmpty} isWaiting={kind === "image" && isEmpty} onFiles={(files) => add(within(files))}
        tools={!isEmpty && <span className="note count">{counted(urls.length, least, most)}</span>}
        onUrl={(url) => put([...urls, ...within([url])])} hasUrl={!isSent && room > 0} hasCamera={kind === "image" && room > 0}>
        <ol className="tiles">
          {tiles.map(({ url, key }, at) => <Tile key={key} {...{ url, kind, at, move, remove }} count={urls.length} />)}
          {parcels.map((parcel) => (
            <li key={parcel.id} className="tile">
              {parcel.problem ? <Failed parcel={parcel} onRetry={retry} onDrop={drop} /> : <Coming parcel={parcel} onDrop={drop} />}
            </li>
          ))}
          {room > 0 && <li className="tile"><label className="ask" htmlFor={id}>Add</label></li>}
        </ol>
      </Drop>
      <p className="unseen" aria-live="polite">{said}</p>
      <p className="wrong" aria-live="polite">{problem}</p>
      <Awaited isHeldUp={isHeldUp} />
    </>
  );
}

function counted(count: number, least: number, most: number): string {
  if (count < least) return `${count}, and at least ${least} are needed`;
  return most < Infinity ? `${count} of at most ${most}` : "";
}

/** A tile of what is on its way. */
function Coming({ parcel, onDrop }: ParcelProps) {
  const { file, url } = parcel;
  return (
    <>
      <Look url={url} kind={familyOf(file)} />
      <Track parcel={parcel} />
      <span className="file-name">{file.name}</span>
      <span className="ways"><IconButton sign="close" title="Cancel" name={`Cancel ${file.name}`} onClick={() => onDrop(parcel)} /></span>
    </>
  );
}

interface TileProps {
  url: string;
  kind: MediaKind;
  at: number;
  count: number;
  move: (from: number, to: number) => void;
  remove: (at: number) => void;
}

/** One file of several: its place changes by its buttons, and by dragging it onto another's. */
function Tile({ url, kind, at, count, move, remove }: TileProps) {
  const [isOver, setOver] = useState(false);
  const name = nameOf(url);
  const bears = ({ dataTransfer }: DragEvent) => dataTransfer.types.includes(TILE);
  const over = (event: DragEvent) => {
    if (!bears(event)) return;
    event.preventDefault();
    setOver(true);
  };
  const drop = (event: DragEvent) => {
    setOver(false);
    if (!bears(event)) return;
    event.preventDefault();
    move(Number(event.dataTransfer.getData(TILE)), at);
  };
  const lift = ({ dataTransfer }: DragEvent) => {
    dataTransfer.setData(TILE, String(at));
    dataTransfer.effectAllowed = "move";
  };
  return (
    <li className={`tile ${isOver ? "over" : ""}`} draggable onDragStart={lift} onDragOver={over} onDragLeave={() => setOver(false)} onDrop={drop}>
      <Look url={url} kind={kind} />
      <span className="file-name" title={name}>{name}</span>
      <span className="ways">
        <IconButton sign="before" title="Move earlier" name={`Move ${name} earlier`} isOff={at === 0} onClick={() => move(at, at - 1)} />
        <IconButton sign="after" title="Move later" name={`Move ${name} later`} isOff={at === count - 1} onClick={() => move(at, at + 1)} />
        <IconButton sign="close" title="Remove" name={`Remove ${name}`} onClick={() => remove(at)} />
      </span>
    </li>
  );
}
