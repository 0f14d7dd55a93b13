/**
 * Change whole characters only. Where an emoji is replaced by one that begins with the same half, CodeMirror changes the other
 * half alone, and Yjs leaves two unknown characters in its place.
 */

import { type ChangeSpec, EditorState, type Text, Transaction } from "@codemirror/state";
import { ySyncAnnotation } from "y-codemirror.next";

export const wholeCharacters = EditorState.transactionFilter.of((transaction) => {
  if (!transaction.docChanged || transaction.annotation(ySyncAnnotation)) return transaction;
  const { doc } = transaction.startState;
  const changes: ChangeSpec[] = [];
  let isWhole = true;
  transaction.changes.iterChanges((from, to, _from, _to, inserted) => {
    const [begin, end] = [isInside(doc, from) ? from - 1 : from, isInside(doc, to) ? to + 1 : to];
    isWhole &&= begin === from && end === to;
    changes.push({ from: begin, to: end, insert: doc.sliceString(begin, from) + inserted.toString() + doc.sliceString(to, end) });
  }, true);
  const userEvent = transaction.annotation(Transaction.userEvent);
  return isWhole ? transaction : { changes, selection: transaction.newSelection, ...(userEvent && { userEvent }) };
});

/** Say whether a place is between the two halves of one character. */
function isInside(doc: Text, at: number): boolean {
  return at > 0 && /^[\ud800-\udbff][\udc00-\udfff]$/.test(doc.sliceString(at - 1, at + 1));
}
