/**
 * Masks as paths to fill and stroke: smooth at any size, made once for each result.
 */

/** @typedef {import("./objects.js").SegObject} SegObject */
/** @typedef {Pick<Path2D, "moveTo" | "quadraticCurveTo" | "closePath">} Pen */

/** @type {WeakMap<number[][], Path2D>} */
const made = new WeakMap();

/**
 * Draws a closed polygon as a curve that touches the middle of each of its sides: no staircase is left, and nothing
 * moves by more than half a pixel.
 * @param {Pen} pen
 * @param {number[]} polygon [x1, y1, x2, y2, ...]
 */
export function trace(pen, polygon) {
  const { length } = polygon;
  pen.moveTo((polygon[length - 2] + polygon[0]) / 2, (polygon[length - 1] + polygon[1]) / 2);
  for (let at = 0; at < length; at += 2) {
    const next = (at + 2) % length;
    const [x, y] = [polygon[at], polygon[at + 1]];
    pen.quadraticCurveTo(x, y, (x + polygon[next]) / 2, (y + polygon[next + 1]) / 2);
  }
  pen.closePath();
}

/**
 * In pixels of the object's bitmap; fill it with the even-odd rule.
 * @param {SegObject} object
 */
export function pathOf({ polygons }) {
  let path = made.get(polygons);
  if (!path) {
    path = new Path2D();
    for (const polygon of polygons) trace(path, polygon);
    made.set(polygons, path);
  }
  return path;
}

/**
 * The objects whose masks are to be seen.
 * @param {SegObject[]} objects
 */
export function shownMasks(objects) {
  return objects.filter(({ hidden, bitmap }) => !hidden && bitmap !== null);
}
