/** Take a conversation: who says what, one below the other. */

import { type ErrorSchema, type FieldProps, getTemplate, titleId } from "@rjsf/utils";
import { useEffect, useRef } from "react";
import { stringifyJson } from "streamapp-client";

import { Icon, IconButton } from "../parts/icon";
import { isRecord, type Schema } from "../runs/schema";
import { extrasOf, type Message, nextRole, pictureOf, rolesOf, takesParts, withImage, withoutPart } from "../runs/talk";
import { AttachButton, Picture, useAttaching } from "./attach";

/** The field of a list of messages; what it does not know of a message stays as it is. */
export function Messages(props: FieldProps) {
  const { schema, formData, errorSchema, fieldPathId, name, title, required = false, registry, onChange, uiSchema = {} } = props;
  const id = fieldPathId.$id;
  const items = schema.items as Schema;
  const roles = rolesOf(items);
  const isNeeded = required || (schema.minItems ?? 0) > 0;
  const given: Message[] = Array.isArray(formData) ? formData : [];
  const messages = given.length || !isNeeded ? given : [{ role: nextRole(roles, undefined), content: "" }];
  const wanted = useRef(""); // the id of what gets the focus, once it is there
  useEffect(() => {
    if (wanted.current) document.getElementById(wanted.current)?.focus();
    wanted.current = "";
  });
  const set = (next: Message[], focused = "") => {
    wanted.current = focused && `${id}_${focused}`;
    onChange(next, fieldPathId.path);
  };
  const move = (from: number, to: number) => {
    const next = messages.with(to, messages[from]!).with(from, messages[to]!);
    set(next, `${to}_${to === 0 || to === next.length - 1 ? "text" : to < from ? "up" : "down"}`);
  };
  const add = () => set([...messages, { role: nextRole(roles, messages.at(-1)?.role as string), content: "" }], `${messages.length}_text`);
  const Title = getTemplate("ArrayFieldTitleTemplate", registry);
  const Description = getTemplate("ArrayFieldDescriptionTemplate", registry);
  const shared = { fieldPathId, schema, uiSchema, registry };
  return (
    <fieldset id={id} className="messages">
      <Title {...shared} title={schema.title || title || name} required={required} />
      <Description {...shared} description={schema.description} />
      <ol aria-labelledby={titleId(fieldPathId)}>
        {messages.map((message, n) => (
          <MessageInput key={n} id={`${id}_${n}`} place={n} count={messages.length} errors={(errorSchema as Schema)?.[n]}
            {...{ message, items, roles, move }} onChange={(changed) => set(messages.with(n, changed))}
            onRemove={() => set(messages.toSpliced(n, 1), "add")} />
        ))}
      </ol>
      {!(messages.length >= (schema.maxItems ?? Infinity)) && (
        <button type="button" id={`${id}_add`} className="quiet" onClick={add}><Icon sign="plus" />Add message</button>
      )}
    </fieldset>
  );
}

interface MessageInputProps {
  id: string;
  place: number;
  count: number;
  message: Message;
  items: Schema;
  roles: string[];
  errors: ErrorSchema | undefined;
  onChange: (message: Message) => void;
  onRemove: () => void;
  move: (from: number, to: number) => void;
}

function MessageInput({ id, place, count, message, items, roles, errors, onChange, onRemove, move }: MessageInputProps) {
  const { role, content } = message;
  const name = `message ${place + 1}`;
  const said = String(role ?? "");
  const known = roles.includes(said) || !said ? roles : [...roles, said];
  const attaching = useAttaching((url) => onChange({ ...message, content: withImage(content, url) }));
  const wrong = [errors, errors?.role, errors?.content].flatMap((each) => (each as Schema | undefined)?.__errors ?? []);
  const write = (text: string) => onChange({ ...message, content: text });
  const setPart = (n: number, part: unknown) => onChange({ ...message, content: (content as unknown[]).with(n, part) });
  return (
    <li className="message" data-role={said} onPaste={takesParts(items) ? attaching.paste : undefined}>
      <div className="bar">
        <select id={`${id}_role`} aria-label={`Role of ${name}`} value={said} onChange={({ target }) => onChange({ ...message, role: target.value })}>
          {!said && <option value="">role</option>}
          {known.map((one) => <option key={one}>{one}</option>)}
        </select>
        {extrasOf(items).map(([key, { title = key, maxLength }]) => (
          <input key={key} type="text" aria-label={`${title} of ${name}`} placeholder={title} maxLength={maxLength} value={String(message[key] ?? "")}
            onChange={({ target }) => onChange({ ...message, [key]: target.value })} />
        ))}
        <span className="icons">
          {takesParts(items) && <AttachButton name={`Attach a picture to ${name}`} take={attaching.take} />}
          <IconButton id={`${id}_up`} sign="up" name={`Move ${name} up`} isOff={place === 0} onClick={() => move(place, place - 1)} />
          <IconButton id={`${id}_down`} sign="down" name={`Move ${name} down`} isOff={place === count - 1} onClick={() => move(place, place + 1)} />
          <IconButton sign="close" name={`Remove ${name}`} onClick={onRemove} />
        </span>
      </div>
      {Array.isArray(content) ? (
        content.map((part, n) => (
          <PartInput key={n} id={`${id}_text${n || ""}`} name={content.length > 1 ? `${name}, part ${n + 1}` : name} part={part}
            onChange={(changed) => setPart(n, changed)} onRemove={() => onChange({ ...message, content: withoutPart(content, n) })} />
        ))
      ) : isRecord(content) ? (
        <code className="part">{stringifyJson(content)}</code>
      ) : (
        <TextInput id={`${id}_text`} name={name} text={String(content ?? "")} isWrong={wrong.length > 0} described={`${id}_wrong`} onChange={write} />
      )}
      {message.tool_calls != null && <code className="part">Calls {stringifyJson(message.tool_calls)}</code>}
      {attaching.note && <p className="note" role="status">{attaching.note}</p>}
      <ul id={`${id}_wrong`} className="error-detail">{wrong.map((one) => <li key={one}>{one}</li>)}</ul>
    </li>
  );
}

interface PartInputProps {
  id: string;
  name: string;
  part: any;
  onChange: (part: unknown) => void;
  onRemove: () => void;
}

/** One part of a content: words, a picture, or what is kept as it is. */
function PartInput({ id, name, part, onChange, onRemove }: PartInputProps) {
  const url = pictureOf(part);
  if (url) return <Picture url={url} name={`picture of ${name}`} onRemove={onRemove} />;
  if (typeof part?.text === "string") return <TextInput id={id} name={name} text={part.text} onChange={(text) => onChange({ ...part, text })} />;
  return <code className="part">{stringifyJson(part)}</code>;
}

interface TextInputProps {
  id: string;
  name: string;
  text: string;
  isWrong?: boolean;
  described?: string;
  onChange: (text: string) => void;
}

function TextInput({ id, name, text, isWrong = false, described, onChange }: TextInputProps) {
  return (
    <textarea id={id} rows={2} aria-label={name.replace(/^m/, "M")} placeholder="Message" value={text} aria-invalid={isWrong}
      aria-describedby={described} onChange={({ target }) => onChange(target.value)} />
  );
}

/** Say whether a field's data can be shown so. */
export function areMessages(data: unknown): boolean {
  return data === undefined || data === null || (Array.isArray(data) && data.every(isRecord));
}
