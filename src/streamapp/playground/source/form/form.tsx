/** The form of an endpoint, made from its JSON schema by react-jsonschema-form. */

// Not from "@rjsf/core": that also imports a validator that compiles schemas.
import AnyArrayField from "@rjsf/core/lib/components/fields/ArrayField.js";
import AnyNumberField from "@rjsf/core/lib/components/fields/NumberField.js";
import Form, { type IChangeEvent } from "@rjsf/core/lib/components/Form.js";
import { asNumber, type ErrorListProps, type ErrorSchema, type FieldProps, type RJSFSchema, toErrorList, type UiSchema } from "@rjsf/utils";
import { type KeyboardEvent, useMemo, useRef } from "react";
import type { StreamappError } from "streamapp-client";

import type { Fields } from "../runs/schema";
import { isConversation } from "../runs/talk";
import { FILLING, placed, validator } from "../runs/validate";
import { MediaListInput } from "./filelist";
import { AnyOfField, ObjectField } from "./frames";
import { areMessages, Messages } from "./messages";
import { leadTo, SettingsOf, useSettings } from "./settings";
import { BUTTONS, Choice, Field, Group, Item, Title } from "./templates";
import { LongText, Select, Slider, Switch, TextWidget } from "./widgets";

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
  const place = useRef<HTMLDivElement>(null);
  const told = useMemo(() => serverErrors(error), [error]);
  const { settings, change } = useSettings(schema, input, told, onChange);
  const newest = useRef({ settings, change, onRun });
  newest.current = { settings, change, onRun };
  return (
    <div ref={place} onKeyDown={runByKey}>
      <SettingsOf.Provider value={settings}>
        <Form
          id={id}
          schema={schema}
          formData={input}
          validator={validator}
          fields={FIELDS}
          widgets={WIDGETS}
          templates={TEMPLATES}
          uiSchema={UI}
          experimental_defaultFormStateBehavior={FILLING}
          noHtml5Validate
          useFallbackUiForUnsupportedType
          focusOnFirstError={({ property = "", params }) => leadTo(place.current!, params?.path ?? property.split(".").slice(1), newest.current.settings)}
          showErrorList="top"
          extraErrors={told}
          extraErrorsBlockSubmit={false}
          onChange={({ formData }: IChangeEvent) => newest.current.change(formData)}
          onSubmit={({ formData }: IChangeEvent) => newest.current.onRun(formData)}
          onError={() => {}} // the library's own would write them to the console
        >
          <></>
        </Form>
      </SettingsOf.Provider>
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
function serverErrors(error: StreamappError | undefined): ErrorSchema {
  if (error?.code !== "invalid_input" || !Array.isArray(error.detail)) return {};
  return placed(error.detail.map(({ loc, msg }) => ({ path: loc.slice(1), message: msg })));
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

/** A list, of which one of messages is a conversation. */
function ArrayField(props: FieldProps) {
  const isTalk = isConversation(props.schema, props.name) && areMessages(props.formData);
  return isTalk ? <Messages {...props} /> : <AnyArrayField {...(props as FieldProps<any[]>)} />;
}

/** Lead to the fields that say what is wrong; what was said of one is gone when that is changed. */
function Wrong({ errorSchema }: ErrorListProps) {
  return toErrorList(errorSchema).length > 0 && <p role="alert" className="error">Some fields need a change; each says which.</p>;
}

const FIELDS = { AnyOfField, ArrayField, NumberField, ObjectField };
const WIDGETS = {
  TextWidget, URLWidget: TextWidget, TextareaWidget: LongText, RangeWidget: Slider, UpDownWidget: TextWidget,
  CheckboxWidget: Switch, FileWidget: MediaListInput, SelectWidget: Select,
};
const TEMPLATES = {
  FieldTemplate: Field,
  TitleFieldTemplate: Title,
  ObjectFieldTemplate: Group,
  ArrayFieldItemTemplate: Item,
  MultiSchemaFieldTemplate: Choice,
  ErrorListTemplate: Wrong,
  ButtonTemplates: BUTTONS,
};
