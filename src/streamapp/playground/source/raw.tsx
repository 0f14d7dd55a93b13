/** The input as JSON, to be written or pasted. */

import { type FormEvent, useId, useState } from "react";
import { parseJson, stringifyJson } from "streamapp-client";

import { runByKey } from "./form";
import type { Input } from "./schema";

interface RawInputProps {
  input: Input;
  onChange: (input: Input) => void;
}

/** A field beside the form; both change the same input. */
export function RawInput({ input, onChange }: RawInputProps) {
  const id = useId();
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
      <label className="control-label" htmlFor={id}>Input as JSON</label>
      <textarea id={id} className="raw" rows={8} spellCheck={false} value={text ?? stringifyJson(input, 2)}
        aria-invalid={problem !== ""} aria-describedby={`${id}problem`} ref={(area) => area?.setCustomValidity(problem)}
        onChange={({ target }) => edit(target.value)} onBlur={() => !problem && setText(undefined)} />
      <div id={`${id}problem`}>{problem && <p role="alert" className="error">{problem}</p>}</div>
    </>
  );
}

interface RawFormProps extends RawInputProps {
  /** By which a button elsewhere can submit it. */
  id: string;
  onRun: (input: Input) => void;
}

/** The same alone, for what has no form; the browser sends no form with a field that is not right. */
export function RawForm({ id, input, onChange, onRun }: RawFormProps) {
  const submit = (event: FormEvent) => {
    event.preventDefault();
    onRun(input);
  };
  return (
    <div onKeyDown={runByKey}>
      <form id={id} onSubmit={submit}><RawInput input={input} onChange={onChange} /></form>
    </div>
  );
}
