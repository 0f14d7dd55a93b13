/** Choose a size, or a proportion, by how it looks. */

import AnyOf from "@rjsf/core/lib/components/fields/MultiSchemaField.js";
import AnyObjectField from "@rjsf/core/lib/components/fields/ObjectField.js";
import type { FieldProps, RJSFSchema } from "@rjsf/utils";
import { createContext, type ReactNode, useContext } from "react";

import type { Fields } from "../runs/schema";
import { type Look, looksOf, pairOf, sizesFor } from "./sizes";

const SHORT = 5; // letters that fit below one of six frames in a row
const SIDE = 20; // of the longer side of a frame, in its picture of 24

interface FramesProps {
  id: string;
  looks: Look[];
  chosen: number;
  onChoose: (index: number) => void;
  /** For what no label above them names. */
  label?: string;
}

/** A row of frames, one of which is chosen. */
export function Frames({ id, looks, chosen, onChoose, label }: FramesProps) {
  const named = label ? { "aria-label": label } : { "aria-labelledby": `${id}__label` };
  const isWide = looks.some((look) => look.label.length > SHORT);
  return (
    <div id={id} className={isWide ? "frames wide" : "frames"} role="radiogroup" {...named} aria-describedby={`${id}__description ${id}__error`}>
      {looks.map((look, index) => (
        <label key={index} className="frame" title={look.title}>
          <input type="radio" name={id} checked={index === chosen} onChange={() => onChoose(index)} />
          <Frame proportion={look.proportion} />
          <span>{look.label}</span>
        </label>
      ))}
    </div>
  );
}

function Frame({ proportion }: { proportion: number | undefined }) {
  const width = SIDE * Math.min(1, proportion ?? 0.8);
  const height = SIDE / Math.max(1, proportion ?? 1.25);
  const box = { x: 12 - width / 2, y: 12 - height / 2, width, height };
  return (
    <svg viewBox="0 0 24 24" aria-hidden="true">
      <rect {...box} rx={2} strokeDasharray={proportion === undefined ? "3 2.5" : undefined} />
    </svg>
  );
}

/** Change several fields of the object around at once. */
const Change = createContext<(values: Fields) => void>(() => {});

/** Whether fields stand beside each other, and have no room for more than a number; "alone" where there are no frames above them. */
export const Pair = createContext<false | "framed" | "alone">(false);

/** An object, whose parts can change several of its fields at once. */
export function ObjectField(props: FieldProps) {
  const { onChange, formData, fieldPathId, childFieldPathId = fieldPathId } = props;
  const change = (values: Fields) => onChange({ ...formData, ...values }, childFieldPathId.path);
  return <Change.Provider value={change}><AnyObjectField {...props} /></Change.Provider>;
}

interface SizeProps {
  id: string;
  schema: RJSFSchema;
  value: Fields | undefined;
  /** The fields themselves, in which exact numbers are written. */
  children: ReactNode;
}

/** The width and the height of a picture, by frames or exactly. */
export function Size({ id, schema, value = {}, children }: SizeProps) {
  const change = useContext(Change);
  const isAlone = useContext(Pair) === "alone";
  const { width, height } = schema.properties as Record<string, RJSFSchema>;
  const canBeEmpty = !schema.required?.some((name) => name === "width" || name === "height");
  const sizes = sizesFor(width!, height!, canBeEmpty);
  const chosen = sizes.findIndex((size) => size.width === (value.width ?? undefined) && size.height === (value.height ?? undefined));
  const isSaidOnce = width!.description === height!.description;
  const fields = <div className={isSaidOnce ? "pair once" : "pair"}><Pair.Provider value="framed">{children}</Pair.Provider></div>;
  if (isAlone) return fields;
  const choose = (index: number) => change({ width: sizes[index]!.width, height: sizes[index]!.height });
  return (
    <fieldset className="field size">
      <legend>Size</legend>
      {isSaidOnce && width!.description && <div className="field-description">{width!.description}</div>}
      {sizes.length > 1 && <Frames id={`${id}_sizes`} label="Usual sizes" looks={sizes} chosen={chosen} onChoose={choose} />}
      {fields}
    </fieldset>
  );
}

/** One of several schemas; a size by its name or in numbers, as fal's `ImageSize` is, has frames for it. */
export function AnyOfField(props: FieldProps) {
  const options = (props as unknown as { options: RJSFSchema[] }).options;
  const named = options.find(({ enum: names }) => names && looksOf(names));
  const exact = options.find((option) => pairOf(option));
  const others = options.filter((option) => option !== named && option !== exact && option.type !== "null");
  if (!named || !exact || others.length) return <AnyOf {...props} />;
  return <NamedSize {...props} named={named} exact={exact} canBeEmpty={!props.required && props.schema.default === undefined} />;
}

interface NamedSizeProps extends FieldProps {
  named: RJSFSchema;
  exact: RJSFSchema;
  canBeEmpty: boolean;
}

function NamedSize({ named, exact, canBeEmpty, ...props }: NamedSizeProps) {
  const { fieldPathId, formData, onChange, registry } = props;
  const { SchemaField } = registry.fields;
  const names = named.enum as string[];
  const custom = typeof formData === "object" && formData ? formData : undefined;
  const values = [...names, custom ?? registry.schemaUtils.getDefaultFormState(exact), ...(canBeEmpty ? [undefined] : [])];
  const words = ["Custom", "Auto"].slice(0, values.length - names.length);
  const looks = [...looksOf(names)!, ...words.map((label) => ({ label, title: "", proportion: undefined }))];
  const chosen = custom ? names.length : values.indexOf(formData ?? undefined);
  const field = { ...props, schema: { ...exact, title: "", description: "" }, uiSchema: { "ui:label": false } };
  return (
    <>
      <Frames id={fieldPathId.$id} looks={looks} chosen={chosen} onChoose={(index) => onChange(values[index], fieldPathId.path)} />
      {custom && SchemaField && <Pair.Provider value="alone"><SchemaField {...field} /></Pair.Provider>}
    </>
  );
}
