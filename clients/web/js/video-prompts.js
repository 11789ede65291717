/**
 * What was clicked where in a video, in the forms in which it is needed.
 */

import { promptOf } from "./objects.js";
import { clock, within } from "./times.js";

/** @typedef {import("./objects.js").SegObject} SegObject */
/** @typedef {import("./objects.js").Mark} Mark */

/**
 * The objects with marks on one frame, each with these marks.
 * @param {SegObject[]} objects
 * @param {number} timeS
 */
export function marksAt(objects, timeS) {
  return objects
    .map(({ id, marks }) => ({ id, marks: marks.filter((mark) => mark.timeS === timeS) }))
    .filter(({ marks }) => marks.length > 0);
}

/**
 * Each object on each frame on which it has marks, in the order of time.
 * @param {SegObject[]} objects
 */
export function flags(objects) {
  return objects
    .flatMap(({ id, name, marks }) => [...new Set(marks.map((mark) => mark.timeS ?? 0))].map((timeS) => ({ id, name, timeS })))
    .sort((a, b) => a.timeS - b.timeS || a.id - b.id);
}

/**
 * The prompts of a `start`: one for each object and frame.
 * @param {SegObject[]} objects
 * @param {number} width @param {number} height of the frames, in the server's pixels
 */
export function filePrompts(objects, width, height) {
  return flags(objects).map(({ id, timeS }) => {
    const [{ marks }] = marksAt(objects.filter((object) => object.id === id), timeS);
    return { ...promptOf(id, marks, width, height), time_s: within(timeS) };
  });
}

/**
 * Which object was clicked outside the part that is to be processed, in words; null: none.
 * @param {SegObject[]} objects
 * @param {number | null} startS
 * @param {number | null} endS
 */
export function outside(objects, startS, endS) {
  const left = flags(objects).find(
    ({ timeS }) => (startS !== null && within(timeS) < startS) || (endS !== null && timeS > endS),
  );
  if (!left) return null;
  const until = endS === null ? "the end" : clock(endS);
  return `${left.name} was clicked at ${clock(left.timeS)}, outside the part from ${clock(startS ?? 0)} to ${until}. Click it within that part, or change the part under More.`;
}
