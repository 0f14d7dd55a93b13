/** What a language model has said so far: its choices side by side, and the tools that they call. */

import { type ChoicePiece, choicesOf } from "./choices";
import { textOf } from "./content";

/** A tool that the model wants called; the arguments are JSON, as far as they have come. */
export interface Call {
  id: string | undefined;
  name: string;
  arguments: string;
}

export interface Choice {
  text: string;
  calls: Call[];
  /** Why it has ended; undefined while it goes on, and where nobody says it. */
  reason: string | undefined;
}

/** The answer to one input. */
export class Words {
  choices: Choice[] = [];
  #kinds: (string | undefined)[] = [];

  /** `input` is what it answers. */
  constructor(readonly input: unknown) {}

  get isEmpty(): boolean {
    return this.choices.every(({ text, calls }) => !text && !calls.length);
  }

  /** Take what came next, of which only words count. */
  take(payload: any): void {
    const choices = choicesOf(payload);
    const piece = choices ? undefined : textOf(payload);
    for (const one of choices ?? []) this.#add(one, "");
    if (piece) this.#add({ ...piece, index: payload.index ?? 0, reason: payload.finish_reason, calls: payload.tool_calls }, piece.kind);
  }

  /** Let go of what came: it is said anew. */
  clear(): void {
    this.choices = [];
    this.#kinds = [];
  }

  /** Pieces of one text are of one kind; of another kind are summaries, and what else an app tells by words. */
  #add({ index, text, isWhole, reason, calls }: ChoicePiece, kind: string): void {
    if ((this.#kinds[index] ??= kind) !== kind) return;
    while (this.choices.length <= index) this.choices.push({ text: "", calls: [], reason: undefined });
    const choice = this.choices[index]!;
    const isAll = isWhole ?? text === choice.text;
    choice.text = isAll ? text : choice.text + text;
    choice.reason = reason ?? choice.reason;
    if (isAll && calls) choice.calls = [];
    for (const [n, call] of (calls ?? []).entries()) join(choice.calls, call, n);
  }
}

/** Put a call to those before it; one that is told in pieces says by its index which it goes on with. */
function join(calls: Call[], { index, id, function: called }: any, n: number): void {
  const { name = "", arguments: given = "" } = called ?? {};
  const words = typeof given === "string" ? given : JSON.stringify(given);
  const begun = calls[index ?? n];
  if (begun) Object.assign(begun, { id: id ?? begun.id, name: begun.name + name, arguments: begun.arguments + words });
  else calls.push({ id, name, arguments: words });
}
