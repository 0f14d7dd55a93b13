/** Show a run in small: its picture, its waveform, its first words, or what it was asked for. */

import { textIn as wordsIn } from "../runs/choices";
import type { Past } from "../runs/history";
import { humanise, type Input, isRecord } from "../runs/schema";

const MOST_LETTERS = 120;

interface ThumbProps {
  picture?: string | undefined;
  wave?: number[] | undefined;
  words: string;
}

export function Thumb({ picture, wave, words }: ThumbProps) {
  if (picture) return <img className="thumb" src={picture} alt="" draggable={false} />;
  if (wave?.length) return <Wave peaks={wave} />;
  return <span className="thumb words">{words}</span>;
}

/** Return how a past run is shown. */
export function thumbOf({ picture, wave, words, input, path }: Past): ThumbProps {
  return { picture, wave, words: words || textIn(input) || numbersIn(input) || path };
}

/** The main text of an input, or the texts of its first list, or what was said last. */
export function textIn(input: Input): string {
  const values = Object.values(isRecord(input) ? input : [input]);
  const isList = (value: unknown) => Array.isArray(value) && value.length > 0 && value.every(isText);
  const text = values.find(isText) ?? (values.find(isList) as string[] | undefined)?.slice(0, MOST_LETTERS).join(", ") ?? lastSaid(values);
  return text.slice(0, MOST_LETTERS);
}

function lastSaid(values: unknown[]): string {
  const messages = values.flatMap((value) => (Array.isArray(value) ? value.at(-1) : [])).filter(isRecord);
  return messages.map(({ content }) => wordsIn(content)).find(Boolean) ?? "";
}

function isText(value: unknown): value is string {
  return typeof value === "string" && value !== "" && !value.startsWith("data:");
}

/** The numbers of an input that has no text. */
function numbersIn(input: Input): string {
  const entries = Object.entries(isRecord(input) ? input : {}).filter(([, value]) => typeof value === "number");
  return entries.map(([name, value]) => `${humanise(name)} ${value}`).join(", ").slice(0, MOST_LETTERS);
}

function Wave({ peaks }: { peaks: number[] }) {
  const most = Math.max(...peaks, 0.01);
  return (
    <svg className="thumb wave-thumb" viewBox={`0 0 ${3 * peaks.length + 5} 48`} aria-hidden="true">
      {peaks.map((peak, n) => {
        const height = Math.max(2, (28 * peak) / most);
        return <rect key={n} x={3 * n + 3} y={24 - height / 2} width={2} height={height} rx={1} />;
      })}
    </svg>
  );
}
