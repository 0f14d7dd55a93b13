/** How fields are put together: labels, groups, lists, and what can be one of several. */

import {
  ADDITIONAL_PROPERTY_FLAG, type ArrayFieldItemTemplateProps, buttonId, canExpand, descriptionId, type FieldTemplateProps, type IconButtonProps,
  type MultiSchemaFieldTemplateProps, type ObjectFieldTemplateProps, titleId, type TitleFieldProps, type WidgetProps,
} from "@rjsf/utils";
import { type ReactElement, type ReactNode, useContext } from "react";

import { Icon, IconButton, type Sign } from "../parts/icon";
import type { Schema } from "../runs/schema";
import { isShown } from "./arrange";
import { Size } from "./frames";
import { AdditionalSettings, SettingsOf } from "./settings";
import { pairOf } from "./sizes";

/** One field: its label, what it is for, the field, and what is wrong with it. */
export function Field(props: FieldTemplateProps) {
  const { id, label, children, errors, description, required, displayLabel, classNames = "", schema } = props;
  const body = (
    <>
      {displayLabel && label && <label id={`${id}__label`} htmlFor={id}>{named(label)}<Required isOn={required} /></label>}
      {displayLabel && description}
      {children}
      {errors}
    </>
  );
  if (ADDITIONAL_PROPERTY_FLAG in schema) return <Entry {...props}>{body}</Entry>;
  return <div className={`field ${classNames}`}>{body}</div>;
}

function Required({ isOn = false }: { isOn?: boolean }) {
  return isOn && <span className="required">*</span>;
}

/** The library numbers what is in a list: "Tags-1". */
function named(label: string): string {
  return label.replace(/-(\d+)$/, " $1");
}

/** A key of a dictionary, and its value. */
function Entry({ id, label, classNames = "", children, registry, uiSchema, onKeyRenameBlur, onRemoveProperty }: FieldTemplateProps) {
  const { RemoveButton } = registry.templates.ButtonTemplates;
  return (
    <div className={`field entry ${classNames}`}>
      <input key={label} id={`${id}-key`} type="text" aria-label={`Name of ${label}`} defaultValue={label} onBlur={onKeyRenameBlur} />
      <div>{children}</div>
      <RemoveButton id={buttonId(id, "remove")} onClick={onRemoveProperty} {...{ registry, uiSchema }} />
    </div>
  );
}

export function Title({ id, title, required }: TitleFieldProps) {
  return <legend id={id}>{named(title)}<Required isOn={required} /></legend>;
}

/** The whole form, or a group inside of it. */
export function Group(props: ObjectFieldTemplateProps) {
  const { fieldPathId, title, description, required, schema, uiSchema, registry, formData, onAddProperty } = props;
  const { main, folded } = useContext(SettingsOf)!;
  const { DescriptionFieldTemplate: Description, ButtonTemplates } = registry.templates;
  const isWhole = fieldPathId.path.length === 0;
  const all = props.properties.filter(({ name }) => isShown((schema.properties?.[name] ?? {}) as Schema));
  if (!all.length && (schema.oneOf ?? schema.anyOf)) return null; // what it can be says all
  const fieldsOf = (isIn: (name: string) => boolean) => paired(props, all.filter(({ name }) => isIn(name)));
  const add = canExpand(schema, uiSchema, formData) && (
    <ButtonTemplates.AddButton id={buttonId(fieldPathId, "add")} onClick={onAddProperty} {...{ registry, uiSchema }} />
  );
  if (isWhole) {
    const isFolded = (name: string) => folded.includes(name);
    return (
      <div id={fieldPathId.$id} className="fields">
        {fieldsOf((name) => name === main)}
        {fieldsOf((name) => name !== main && !isFolded(name))}
        {add}
        {folded.length > 0 && <AdditionalSettings>{fieldsOf(isFolded)}</AdditionalSettings>}
      </div>
    );
  }
  return (
    <fieldset id={fieldPathId.$id}>
      {title && <Title id={titleId(fieldPathId)} {...{ title, required, schema, registry }} />}
      {description && <Description id={descriptionId(fieldPathId)} {...{ description, schema, registry }} />}
      {all.length > 0 && <div className={schema.additionalProperties ? "fields" : "fields group"}>{fieldsOf(() => true)}</div>}
      {add}
    </fieldset>
  );
}

/** Return fields, of which a width and a height are one. */
function paired({ schema, fieldPathId, formData }: ObjectFieldTemplateProps, fields: ObjectFieldTemplateProps["properties"]): ReactNode[] {
  const pair: string[] = pairOf(schema) ?? [];
  const inPair = fields.filter(({ name }) => pair.includes(name));
  if (inPair.length < 2) return fields.map(({ content }) => content);
  const [first, ...others] = inPair;
  const size = <Size key="size" id={fieldPathId.$id} schema={schema} value={formData}>{inPair.map(({ content }) => content)}</Size>;
  return fields.filter((field) => !others.includes(field)).map((field) => (field === first ? size : field.content));
}

/** One of several schemas: the library gives the select that chooses it no label. */
export function Choice({ selector, optionSchemaField }: MultiSchemaFieldTemplateProps) {
  const { id, label } = (selector as ReactElement<WidgetProps>).props;
  return (
    <div className="union">
      <label className="unseen" htmlFor={id}>Kind of {label}</label>
      {selector}
      {optionSchemaField}
    </div>
  );
}

/** One of a list; the buttons stand where one sees them, before a group and after a line. */
export function Item({ children, hasToolbar, buttonsProps, registry, schema }: ArrayFieldItemTemplateProps) {
  const Buttons = registry.templates.ArrayFieldItemButtonsTemplate;
  const isGroup = schema.type === "object" || schema.type === "array";
  const tools = hasToolbar && <div className="tools"><Buttons {...buttonsProps} /></div>;
  return (
    <div className={isGroup ? "item of-groups" : "item"}>
      {isGroup && tools}
      {children}
      {!isGroup && tools}
    </div>
  );
}

function tool(sign: Sign, name: string) {
  return ({ id, onClick = () => {}, disabled = false }: IconButtonProps) => <IconButton {...{ sign, name, id, onClick }} isOff={disabled} />;
}

function Add({ id, onClick, disabled }: IconButtonProps) {
  return <button type="button" className="quiet add" {...{ id, onClick, disabled }}><Icon sign="plus" />Add</button>;
}

/** The buttons of lists. */
export const BUTTONS = {
  AddButton: Add,
  CopyButton: tool("copy", "Copy item"),
  MoveDownButton: tool("down", "Move down"),
  MoveUpButton: tool("up", "Move up"),
  RemoveButton: tool("close", "Remove"),
  ClearButton: tool("close", "Clear"),
};
