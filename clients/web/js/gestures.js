/**
 * What a click means. The rule, in one place:
 *
 * - an object is selected: the click adds to it, to include or to exclude what is there;
 * - nothing is selected: a click on an object selects it, a click elsewhere is a new object;
 * - excluding (shift, right button, long press, or the switch) with nothing selected goes to the object under the
 *   pointer, else to the newest one;
 * - a dragged box is a new object, or the box of the selected one.
 */

export const INCLUDE = 1;
export const EXCLUDE = 0;

/**
 * @typedef {{kind: "new"} | {kind: "select" | "add", objectId: number} | {kind: "none", why: string}} Action
 * @typedef {{selected: number | null, hit: number | null, newest: number | null}} Situation
 */

/**
 * @param {"point" | "box"} gesture
 * @param {number} label INCLUDE or EXCLUDE
 * @param {Situation} situation ids of the selected object, of the one under the pointer, of the newest
 * @returns {Action}
 */
export function interpret(gesture, label, { selected, hit, newest }) {
  if (selected !== null) return { kind: "add", objectId: selected };
  if (gesture === "box") return { kind: "new" };
  if (label === EXCLUDE) {
    const objectId = hit ?? newest;
    if (objectId === null) return { kind: "none", why: "Click an object first, then exclude what does not belong to it." };
    return { kind: "add", objectId };
  }
  return hit === null ? { kind: "new" } : { kind: "select", objectId: hit };
}

/**
 * What the next click does, in words.
 * @param {string | null} selectedName
 * @param {number} label
 * @param {boolean} anyObjects
 * @param {boolean} [lost] the selected object is out of sight
 */
export function describeNext(selectedName, label, anyObjects, lost = false) {
  if (label === EXCLUDE) {
    if (selectedName) return `Next click: not part of ${selectedName}`;
    return anyObjects ? "Next click: not part of the object" : "Next click: nothing to exclude from yet";
  }
  if (selectedName && lost) return `Next click: where ${selectedName} is now`;
  return selectedName ? `Next click: part of ${selectedName}` : "Next click or drag: new object";
}
