/** What one writes, slides and chooses with. */

import Checkboxes from "@rjsf/core/lib/components/widgets/CheckboxesWidget.js";
import AnySelect from "@rjsf/core/lib/components/widgets/SelectWidget.js";
import { ADDITIONAL_PROPERTY_FLAG, type BaseInputTemplateProps, descriptionId, type RJSFSchema, type WidgetProps } from "@rjsf/utils";
import { useContext, useLayoutEffect, useRef } from "react";

import { IconButton } from "../parts/icon";
import type { Schema } from "../runs/schema";
import { isLong } from "./arrange";
import { MediaInput } from "./files";
import { Frames, Pair } from "./frames";
import { drawn, isSeed, seedsOf } from "./seed";
import { SettingsOf } from "./settings";
import { looksOf } from "./sizes";

const MOST_STEPS = 10_000;
const MAIN_ROWS = 3;

/** Choose the input by the schema, at any depth, which a `uiSchema` could not. */
export function TextWidget(props: WidgetProps) {
  const { schema, id, value = "" } = props;
  const hasLines = useRef(false); // for good: what one writes in is not exchanged meanwhile
  const isMain = id === `root_${useContext(SettingsOf)?.main}`;
  const isPaired = useContext(Pair) !== false;
  if ((schema as Schema).media) return <MediaInput {...props} />;
  if (schema.const !== undefined) return <input type="hidden" value={String(schema.const)} />; // it is chosen by the select above
  if (schema.type === "integer" && isSeed(props)) return <Seed {...props} />;
  if (isRange(schema) && !isPaired) return <Slider {...props} />;
  if (schema.type !== "string") return <Line {...props} placeholder={emptyNumber(props)} />;
  const isOpen = schema.format === undefined && schema.maxLength === undefined;
  hasLines.current ||= isLong(schema) || (isMain && isOpen) || /\n/.test(value);
  return (
    <>
      {hasLines.current ? <LongText {...props} /> : <Line {...props} options={{ ...props.options, emptyValue: emptyText(props) }} />}
      <Examples {...props} />
    </>
  );
}

/** One line; its examples are chips, not a list of the browser's. */
function Line(props: WidgetProps) {
  const { BaseInputTemplate } = props.registry.templates;
  const schema = { ...props.schema, examples: undefined };
  return <BaseInputTemplate {...(props as unknown as BaseInputTemplateProps)} schema={schema} aria-invalid={isWrong(props)} />;
}

function isWrong({ rawErrors = [] }: WidgetProps): boolean | undefined {
  return rawErrors.length > 0 || undefined;
}

function describedBy(id: string): string {
  return `${id}__description ${id}__error`;
}

/** An optional text that has a default can be emptied; a required one cannot. */
function emptyText({ schema, required }: WidgetProps): string | undefined {
  return schema.default && !required ? "" : undefined;
}

/** Say what becomes of a number that is not given. */
function emptyNumber({ schema, required }: WidgetProps): string {
  const isAsked = required || ADDITIONAL_PROPERTY_FLAG in schema;
  return schema.default !== undefined ? String(schema.default) : isAsked ? "" : "Auto";
}

/** Several lines; as many as are written. */
export function LongText(props: WidgetProps) {
  const { id, value = "", onChange, schema } = props;
  const isMain = id === `root_${useContext(SettingsOf)?.main}`;
  const area = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => grow(area.current!), [value]);
  return (
    <textarea ref={area} id={id} className={isMain ? "main" : undefined} rows={isMain ? MAIN_ROWS : MAIN_ROWS - 1} value={value} maxLength={schema.maxLength}
      aria-describedby={describedBy(id)} aria-invalid={isWrong(props)} onChange={({ target }) => onChange(target.value || emptyText(props))} />
  );
}

/** Do what `field-sizing: content` does where it is not known. */
function grow(area: HTMLTextAreaElement): void {
  if (CSS.supports("field-sizing", "content")) return;
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight + area.offsetHeight - area.clientHeight}px`;
}

function Examples({ schema, onChange }: WidgetProps) {
  const examples = (Array.isArray(schema.examples) ? schema.examples : []).filter((example) => typeof example === "string");
  if (!examples.length) return null;
  return (
    <div className="examples" role="group" aria-label="Examples">
      {examples.map((example) => <button key={example} type="button" title={example} onClick={() => onChange(example)}>{example}</button>)}
    </div>
  );
}

function isRange({ minimum, maximum, type, multipleOf = 1 }: RJSFSchema): boolean {
  if (minimum === undefined || maximum === undefined) return false;
  const isExact = Number.isSafeInteger(minimum) && Number.isSafeInteger(maximum);
  return type === "number" || (type === "integer" && isExact && (maximum - minimum) / multipleOf <= MOST_STEPS);
}

/** A slider, and beside it the exact value; empty, the server decides. */
export function Slider(props: WidgetProps) {
  const { id, label, schema, value, onChange } = props;
  const { minimum = 0, maximum = 1, multipleOf, type } = schema;
  const step = multipleOf ?? (type === "integer" ? 1 : "any");
  const limits = { min: minimum, max: maximum, step };
  const described = { "aria-describedby": describedBy(id), "aria-invalid": isWrong(props) };
  const share = Math.min(1, Math.max(0, ((value ?? minimum) - minimum) / (maximum - minimum || 1)));
  return (
    <div className="slider" ref={(row) => row?.style.setProperty("--share", String(share))}>
      <input {...limits} {...described} id={id} className={value === undefined ? "unset" : undefined} type="range" value={value ?? minimum}
        step={step === "any" ? (maximum - minimum) / 200 : step} onChange={({ target }) => onChange(target.valueAsNumber)} />
      <input {...limits} {...described} type="number" aria-label={`${label}, exactly`} value={value ?? ""}
        placeholder={emptyNumber(props)} onChange={({ target }) => onChange(target.value === "" ? undefined : target.valueAsNumber)} />
    </div>
  );
}

/** A seed, and a dice that throws one. */
function Seed(props: WidgetProps) {
  const { schema, required, onChange } = props;
  const seeds = seedsOf(schema);
  const isDrawn = !required && schema.default === undefined;
  return (
    <div className="seed">
      <Line {...props} placeholder={isDrawn ? "Random each time" : emptyNumber(props)} />
      {seeds && (
        <IconButton sign="dice" name="Random seed" onClick={() => onChange(String(drawn(seeds)))} />
      )}
    </div>
  );
}

/** A switch, with its label before it. */
export function Switch(props: WidgetProps) {
  const { id, label, value, onChange, schema, registry, uiSchema, hideLabel } = props;
  const Description = registry.templates.DescriptionFieldTemplate;
  return (
    <div className="switch">
      <label htmlFor={id} className={hideLabel ? "unseen" : undefined}>{label}</label>
      {schema.description && <Description id={descriptionId(id)} description={schema.description} {...{ schema, registry, uiSchema }} />}
      <input id={id} type="checkbox" checked={value ?? false} onChange={({ target }) => onChange(target.checked)}
        aria-describedby={describedBy(id)} aria-invalid={isWrong(props)} />
    </div>
  );
}

/** One of a list: frames, where its words are sizes or proportions; several of it: chips. */
export function Select(props: WidgetProps) {
  const { id, schema, value, onChange, required, multiple, options } = props;
  const choices = options.enumOptions ?? [];
  const looks = multiple || !isSize(props) ? undefined : looksOf(choices.map((choice) => choice.value));
  if (multiple) return <div role="group" aria-labelledby={`${id}__label`}><Checkboxes {...props} /></div>;
  if (!looks) return <AnySelect {...props} />;
  const canBeEmpty = !required && schema.default === undefined;
  const values = [...(canBeEmpty ? [undefined] : []), ...choices.map((choice) => choice.value)];
  const all = canBeEmpty ? [{ label: "Any", title: "The app chooses", proportion: undefined }, ...looks] : looks;
  return <Frames id={id} looks={all} chosen={values.indexOf(value ?? undefined)} onChoose={(index) => onChange(values[index])} />;
}

function isSize({ name, label }: WidgetProps): boolean {
  return /size|ratio|aspect|resolution|dimension|format/i.test(`${name} ${label}`);
}
