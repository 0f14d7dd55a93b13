/** The input as JSON, to be written or pasted. */

import { type FormEvent, useId, useState } from "react";
import { parseJson, stringifyJson } from "streamapp-client";

import type { Input } from "../runs/schema";
import { runByKey } from "./form";

interface RawFormProps {
  /** By which a button elsewhere can submit it. */
  id: string;
  input: Input;
  onChange: (input: Input) => void;
  onRun: (input: Input) => void;
}

/** In the place of the form, or where there is none; the browser sends no form with a field that is not right. */
export function RawForm({ id, input, onChange, onRun }: RawFormProps) {
  const field = useId();
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
  const submit = (event: FormEvent) => {
    event.preventDefault();
    onRun(input);
  };
  return (
    <div onKeyDown={runByKey}>
      <form id={id} onSubmit={submit}>
        <label className="control-label" htmlFor={field}>Input as JSON</label>
        <textarea id={field} className="raw" rows={12} spellCheck={false} value={text ?? stringifyJson(input, 2)}
          aria-invalid={problem !== ""} aria-describedby={`${field}problem`} ref={(area) => area?.setCustomValidity(problem)}
          onChange={({ target }) => edit(target.value)} onBlur={() => !problem && setText(undefined)} />
        <div id={`${field}problem`}>{problem && <p role="alert" className="error">{problem}</p>}</div>
      </form>
    </div>
  );
}
