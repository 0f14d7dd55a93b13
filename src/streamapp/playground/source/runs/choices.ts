/** Read what OpenAI's clients are told: choices, their pieces, and the messages that they come to. */

/** A piece of one choice, or all of it; where that is not said, a piece that equals what came so far is. */
export interface ChoicePiece {
  index: number;
  text: string;
  isWhole?: boolean | undefined;
  /** Why it has ended. */
  reason?: string | undefined;
  /** The tools that it calls, as they are told. */
  calls?: unknown[] | undefined;
}

/** Return the pieces of choices that a payload holds; undefined where it is of another kind. */
export function choicesOf(payload: any): ChoicePiece[] | undefined {
  if (typeof payload !== "object" || payload === null) return undefined;
  const { choices } = payload;
  if (Array.isArray(choices)) return choices.every(isChoice) ? choices.map(choiceOf) : undefined;
  const message = [payload, payload.message, payload.messages?.at?.(-1)].find((one) => one?.role === "assistant");
  return message && [choiceOf({ message }, 0)];
}

function isChoice(choice: any): boolean {
  return ["delta", "message", "text", "tokens"].some((key) => choice?.[key] !== undefined);
}

function choiceOf(choice: any, place: number): ChoicePiece {
  const { index = place, finish_reason: reason, tokens } = choice;
  const said = choice.delta ?? choice.message ?? choice;
  const text = Array.isArray(tokens) ? tokens.join("") : (said.content ?? said.text ?? "");
  return { index, text: textIn(text), reason: reason ?? undefined, calls: said.tool_calls, isWhole: saysIfWhole(choice) };
}

function saysIfWhole({ delta, message }: any): boolean | undefined {
  return delta ? false : message ? true : undefined;
}

/** Return the words of a message, whose content may be a list of parts. */
export function textIn(content: unknown): string {
  if (typeof content === "string") return content;
  return Array.isArray(content) ? content.flatMap((part) => (typeof part?.text === "string" ? part.text : [])).join("\n\n") : "";
}
