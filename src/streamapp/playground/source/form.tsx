/** The form of an endpoint, made from its JSON schema by react-jsonschema-form. */

// Not from "@rjsf/core": that also imports a validator that compiles schemas.
import AnyNumberField from "@rjsf/core/lib/components/fields/NumberField.js";
import Form, { type IChangeEvent } from "@rjsf/core/lib/components/Form.js";
import {
  type ArrayFieldItemTemplateProps, asNumber, type BaseInputTemplateProps, type ErrorSchema, type FieldProps, type IconButtonProps,
  type MultiSchemaFieldTemplateProps, type RJSFSchema, toErrorSchema, type UiSchema, type WidgetProps,
} from "@rjsf/utils";
import { type KeyboardEvent, type ReactElement, useRef } from "react";
import type { StreamappError } from "streamapp-client";

import { MediaInput } from "./media";
import type { Fields } from "./schema";
import { validator } from "./validate";

const LONG_TEXT = 200;
const MOST_STEPS = 10_000;

interface FormProps {
  /** By which a button elsewhere can submit it. */
  id: string;
  schema: RJSFSchema;
  input: Fields;
  error: StreamappError | undefined;
  onChange: (input: Fields) => void;
  onRun: (input: Fields) => void;
}

/**
 * Fill in, check, and run.
 *
 * The library takes all functions for equal, and so goes on calling those that it was given first, inside of its
 * children too: it gets such as look up the newest, and no children.
 */
export function EndpointForm({ id, schema, input, error, onChange, onRun }: FormProps) {
  const newest = useRef({ onChange, onRun });
  newest.current = { onChange, onRun };
  return (
    <div onKeyDown={runByKey}>
      <Form
        id={id}
        schema={schema}
        formData={input}
        validator={validator}
        fields={FIELDS}
        widgets={WIDGETS}
        templates={TEMPLATES}
        uiSchema={UI}
        noHtml5Validate
        useFallbackUiForUnsupportedType
        focusOnFirstError
        showErrorList="top"
        extraErrors={serverErrors(error)}
        extraErrorsBlockSubmit={false}
        onChange={({ formData }: IChangeEvent) => newest.current.onChange(formData)}
        onSubmit={({ formData }: IChangeEvent) => newest.current.onRun(formData)}
        onError={() => {}} // the library's own would write them to the console
      >
        <></>
      </Form>
    </div>
  );
}

const UI: UiSchema = { "ui:label": false };

/** Run by Ctrl+Enter, from anywhere in a form; one press is one run. */
export function runByKey(event: KeyboardEvent): void {
  if (event.key !== "Enter") return;
  const form = event.currentTarget.querySelector("form")!;
  if (event.repeat && !(event.target instanceof HTMLTextAreaElement)) event.preventDefault();
  else if (!event.repeat && (event.ctrlKey || event.metaKey)) form.requestSubmit();
}

/** Put what the server found wrong to the fields that it names. */
function serverErrors(error: StreamappError | undefined): ErrorSchema | undefined {
  if (error?.code !== "invalid_input" || !Array.isArray(error.detail)) return undefined;
  return toErrorSchema(
    error.detail.map(({ loc, msg }) => ({ property: `.${loc.slice(1).join(".")}`, message: msg, stack: msg })),
  );
}

/** Choose the input by the schema, at any depth, which a `uiSchema` could not. */
function TextWidget(props: WidgetProps) {
  const { schema } = props;
  const { BaseInputTemplate } = props.registry.templates;
  if ((schema as any).media) return <MediaInput {...props} />;
  if (schema.const !== undefined) return <input type="hidden" value={String(schema.const)} />; // it is chosen by the select above
  if (isRange(schema)) return <Slider {...props} />;
  if (schema.type === "string" && isLong(schema)) return <LongText {...props} />;
  const emptied = schema.type === "string" ? emptyText(props) : undefined;
  return <BaseInputTemplate {...(props as unknown as BaseInputTemplateProps)} options={{ ...props.options, emptyValue: emptied }} />;
}

/** An optional text that has a default can be emptied; a required one cannot. */
function emptyText({ schema, required }: WidgetProps): string | undefined {
  return schema.default && !required ? "" : undefined;
}

function isLong({ maxLength, format, title = "" }: RJSFSchema): boolean {
  return format === undefined && ((maxLength ?? 0) > LONG_TEXT || /prompt/i.test(title));
}

function LongText(props: WidgetProps) {
  const { id, value = "", onChange, schema } = props;
  const examples = (schema.examples ?? []) as string[];
  return (
    <>
      <textarea id={id} rows={3} value={value} maxLength={schema.maxLength} aria-describedby={`${id}__description ${id}__error`}
        onChange={({ target }) => onChange(target.value || emptyText(props))} />
      {examples.length > 0 && (
        <div className="examples">
          {examples.map((example) => <button key={example} type="button" title={example} onClick={() => onChange(example)}>{example}</button>)}
        </div>
      )}
    </>
  );
}

function isRange({ minimum, maximum, type, multipleOf = 1 }: RJSFSchema): boolean {
  if (minimum === undefined || maximum === undefined) return false;
  const isExact = Number.isSafeInteger(minimum) && Number.isSafeInteger(maximum);
  return type === "number" || (type === "integer" && isExact && (maximum - minimum) / multipleOf <= MOST_STEPS);
}

/** A slider, and beside it the exact value; empty, the server decides. */
function Slider({ id, label, schema, value, onChange }: WidgetProps) {
  const { minimum = 0, maximum = 1, multipleOf, type } = schema;
  const step = multipleOf ?? (type === "integer" ? 1 : "any");
  const limits = { min: minimum, max: maximum, step };
  const described = `${id}__description ${id}__error`;
  const className = value === undefined ? "unset" : "";
  return (
    <div className="slider">
      <input {...limits} {...{ id, className }} type="range" aria-describedby={described} value={value ?? minimum}
        step={step === "any" ? (maximum - minimum) / 200 : step} onChange={({ target }) => onChange(target.valueAsNumber)} />
      <input {...limits} type="number" aria-label={`${label}, exactly`} aria-describedby={described} value={value ?? ""}
        placeholder="auto" onChange={({ target }) => onChange(target.value === "" ? undefined : target.valueAsNumber)} />
    </div>
  );
}

/** Integers of any size: the library makes numbers of them, and so rounds those beyond 2^53. */
function NumberField(props: FieldProps) {
  const StringField = props.registry.fields.StringField!;
  if (props.schema.type !== "integer") return <AnyNumberField {...props} />;
  return <StringField {...props} onChange={(value, ...place) => props.onChange(integerOf(value), ...place)} />;
}

/** Read what was typed; a select gives what its options are. */
function integerOf(value: unknown): unknown {
  if (typeof value !== "string") return value;
  return /^-?\d+$/.test(value) && !Number.isSafeInteger(Number(value)) ? BigInt(value) : asNumber(value);
}

function iconButton(text: string, name: string) {
  return ({ id, className, onClick, disabled }: IconButtonProps) => (
    <button type="button" {...{ id, className, onClick, disabled }} title={name} aria-label={name}>{text}</button>
  );
}

/** One of several schemas: the library gives the select that chooses it no label. */
function Choice({ selector, optionSchemaField }: MultiSchemaFieldTemplateProps) {
  const { id, label } = (selector as ReactElement<WidgetProps>).props;
  return (
    <>
      <label className="unseen" htmlFor={id}>Kind of {label}</label>
      {selector}
      {optionSchemaField}
    </>
  );
}

function Item({ children, hasToolbar, buttonsProps, registry }: ArrayFieldItemTemplateProps) {
  const Buttons = registry.templates.ArrayFieldItemButtonsTemplate;
  return (
    <div className="item">
      {children}
      {hasToolbar && <div className="line"><Buttons {...buttonsProps} /></div>}
    </div>
  );
}

const FIELDS = { NumberField };
const WIDGETS = { TextWidget, URLWidget: TextWidget, TextareaWidget: LongText, RangeWidget: Slider, UpDownWidget: TextWidget };
const TEMPLATES = {
  ArrayFieldItemTemplate: Item,
  MultiSchemaFieldTemplate: Choice,
  ErrorListTemplate: () => <p role="alert" className="error">Some fields are not right yet; they say what is wrong.</p>,
  ButtonTemplates: {
    AddButton: iconButton("+ Add", "Add"),
    CopyButton: iconButton("⧉", "Copy item"),
    MoveDownButton: iconButton("↓", "Move down"),
    MoveUpButton: iconButton("↑", "Move up"),
    RemoveButton: iconButton("✕", "Remove"),
    ClearButton: iconButton("✕", "Clear"),
  },
};
