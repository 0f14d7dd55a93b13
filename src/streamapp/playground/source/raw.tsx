/** The input as JSON, to be written or pasted. */

import { useState } from "react";
import { parseJson, stringifyJson } from "streamapp-client";

import type { Input } from "./form";

/** A field beside the form; both change the same input. */
export function RawInput({ input, onChange }: { input: Input; onChange: (input: Input) => void }) {
  const [text, setText] = useState<string>(); // while it is being written
  const [problem, setProblem] = useState("");
  const edit = (given: string) => {
    setText(given);
    try {
      onChange(parseJson(given));
      setProblem("");
    } catch (error) {
      setProblem((error as Error).message);
    }
  };
  return (
    <>
      <textarea aria-label="Input as JSON" className="raw" rows={8} spellCheck={false} value={text ?? stringifyJson(input, 2)}
        onChange={({ target }) => edit(target.value)} onBlur={() => !problem && setText(undefined)} />
      {problem && <p role="alert" className="error">{problem}</p>}
    </>
  );
}
