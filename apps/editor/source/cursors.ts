/**
 * Where the others are in the text. As y-codemirror.next has it, whose cursors others see, too, but for the colours, which are
 * classes: what that writes into `style` attributes a strict policy forbids.
 */

import { Annotation, type Extension, type Range, RangeSet } from "@codemirror/state";
import { Decoration, type DecorationSet, EditorView, type PluginValue, ViewPlugin, type ViewUpdate, WidgetType } from "@codemirror/view";
import type { Awareness } from "y-protocols/awareness";
import * as Y from "yjs";

import { isObject, type Person, person } from "./people.ts";

const changed = Annotation.define<boolean>();

class Caret extends WidgetType {
  constructor(
    readonly person: Person,
    readonly at: string,
  ) {
    super();
  }

  /** One that has moved is made anew: its name is shown for a while. */
  override eq({ person, at }: Caret): boolean {
    return at === this.at && person.client === this.person.client && person.name === this.person.name && person.colour === this.person.colour;
  }

  override toDOM(): HTMLElement {
    const caret = document.createElement("span");
    caret.className = `caret person-${this.person.colour}`;
    caret.ariaHidden = "true"; // it is no part of the text
    const name = document.createElement("span");
    name.textContent = this.person.name;
    caret.append(name);
    return caret;
  }
}

class Cursors implements PluginValue {
  decorations: DecorationSet = RangeSet.empty;

  constructor(
    private readonly view: EditorView,
    private readonly text: Y.Text,
    private readonly awareness: Awareness,
  ) {
    awareness.on("change", this.look);
  }

  destroy(): void {
    this.awareness.off("change", this.look);
  }

  update(update: ViewUpdate): void {
    this.tell(update);
    const ranges = [...this.awareness.getStates()].flatMap(([client, state]) => this.rangesOf(client, state, update));
    this.decorations = Decoration.set(ranges, true);
  }

  private readonly look = ({ added, updated, removed }: Record<"added" | "updated" | "removed", number[]>): void => {
    if ([...added, ...updated, ...removed].some((client) => client !== this.awareness.clientID)) {
      this.view.dispatch({ annotations: changed.of(true) });
    }
  };

  /** Tell the others where one is, while the text has the focus. */
  private tell({ view, state }: ViewUpdate): void {
    const own = this.awareness.getLocalState();
    if (!own || !view.hasFocus) return;
    const { anchor, head } = state.selection.main;
    const cursor = { anchor: Y.createRelativePositionFromTypeIndex(this.text, anchor), head: Y.createRelativePositionFromTypeIndex(this.text, head) };
    if (JSON.stringify(cursor) !== JSON.stringify(own.cursor)) this.awareness.setLocalStateField("cursor", cursor);
  }

  private rangesOf(client: number, state: Record<string, unknown>, { state: { doc } }: ViewUpdate): Range<Decoration>[] {
    if (client === this.awareness.clientID || !isObject(state.cursor)) return [];
    const [anchor, head] = [this.placeOf(state.cursor.anchor), this.placeOf(state.cursor.head)];
    if (anchor === undefined || head === undefined || Math.max(anchor, head) > doc.length) return [];
    const who = person(client, isObject(state.user) ? state.user : {}, this.awareness);
    const caret = Decoration.widget({ side: head > anchor ? -1 : 1, widget: new Caret(who, JSON.stringify(state.cursor)) }).range(head);
    if (anchor === head) return [caret];
    const selection = Decoration.mark({ class: `selected person-${who.colour}` });
    return [selection.range(Math.min(anchor, head), Math.max(anchor, head)), caret];
  }

  private placeOf(relative: unknown): number | undefined {
    try {
      const place = Y.createAbsolutePositionFromRelativePosition(Y.createRelativePositionFromJSON(relative), this.text.doc!);
      return place?.type === this.text ? place.index : undefined;
    } catch {
      return undefined; // others may say anything
    }
  }
}

export function cursors(text: Y.Text, awareness: Awareness): Extension {
  return ViewPlugin.define((view) => new Cursors(view, text, awareness), { decorations: (plugin) => plugin.decorations });
}
