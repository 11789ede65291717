/**
 * What is drawn over picture and masks: the objects' tags, clicks, the box that is being dragged, the keyboard's pointer.
 * Sizes are in pixels of the page.
 */

import { INCLUDE } from "./gestures.js";
import { cssColor, textColor } from "./palette.js";

const LONGEST_TAG_PX = 160;
const TAG_MARGIN_PX = 14;

/** @typedef {import("./stage.js").Spot} Spot */
/** @typedef {{width: number, height: number}} Size of the stage */

/**
 * The object's number, or the name that it was given, at the upper edge of its mask.
 * @param {CanvasRenderingContext2D} context
 * @param {Size} size
 * @param {import("./objects.js").SegObject} object
 */
export function drawTag(context, size, { id, name, named, bitmap, polygons }) {
  if (!bitmap || !polygons.length) return;
  const outer = polygons.reduce((most, polygon) => (polygon.length > most.length ? polygon : most));
  let top = 0;
  for (let at = 0; at < outer.length; at += 2) if (outer[at + 1] < outer[top + 1]) top = at;
  context.font = "600 12px system-ui, sans-serif";
  const measure = (/** @type {string} */ text) => context.measureText(text).width;
  const words = named ? shortened(name, LONGEST_TAG_PX - TAG_MARGIN_PX, measure) : String(id);
  const width = Math.max(20, measure(words) + TAG_MARGIN_PX);
  const x = between((outer[top] / bitmap.width) * size.width - width / 2, 4, size.width - width - 4);
  const y = between((outer[top + 1] / bitmap.height) * size.height - 24, 4, size.height - 24);
  context.fillStyle = cssColor(id);
  context.beginPath();
  context.roundRect(x, y, width, 20, 10);
  context.fill();
  context.fillStyle = textColor(id);
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(words, x + width / 2, y + 10.5);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Size} size
 * @param {import("./objects.js").SegObject} object
 * @param {(mark: import("./objects.js").Mark) => boolean} isShown
 */
export function drawMarks(context, { width, height }, { id, marks }, isShown) {
  for (const mark of marks.filter(isShown)) {
    if (mark.kind === "box") {
      context.setLineDash([6, 5]);
      context.strokeStyle = cssColor(id);
      context.lineWidth = 1.5;
      context.strokeRect(mark.x1 * width, mark.y1 * height, (mark.x2 - mark.x1) * width, (mark.y2 - mark.y1) * height);
      context.setLineDash([]);
      continue;
    }
    const x = mark.x * width;
    const y = mark.y * height;
    context.beginPath();
    context.arc(x, y, 7, 0, 2 * Math.PI);
    context.fillStyle = mark.label === INCLUDE ? cssColor(id) : "#1b1f27";
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = "#fff";
    context.stroke();
    context.beginPath();
    context.moveTo(x - 3, y);
    context.lineTo(x + 3, y);
    if (mark.label === INCLUDE) {
      context.moveTo(x, y - 3);
      context.lineTo(x, y + 3);
    }
    context.stroke();
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Size} size
 * @param {{from: Spot, to: Spot}} press
 */
export function drawBand(context, { width, height }, { from, to }) {
  const box = [from.x * width, from.y * height, (to.x - from.x) * width, (to.y - from.y) * height];
  context.fillStyle = "rgb(255 255 255 / 0.14)";
  context.fillRect(box[0], box[1], box[2], box[3]);
  context.lineWidth = 3;
  context.strokeStyle = "rgb(0 0 0 / 0.55)";
  context.strokeRect(box[0], box[1], box[2], box[3]);
  context.lineWidth = 1.5;
  context.strokeStyle = "#fff";
  context.strokeRect(box[0], box[1], box[2], box[3]);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Size} size
 * @param {Spot} spot
 */
export function drawCrosshair(context, { width, height }, spot) {
  const x = spot.x * width;
  const y = spot.y * height;
  for (const [color, line] of /** @type {const} */ ([["rgb(0 0 0 / 0.6)", 4], ["#fff", 2]])) {
    context.strokeStyle = color;
    context.lineWidth = line;
    context.beginPath();
    for (const [fromX, fromY] of [[-1, 0], [1, 0], [0, -1], [0, 1]]) {
      context.moveTo(x + fromX * 5, y + fromY * 5);
      context.lineTo(x + fromX * 16, y + fromY * 16);
    }
    context.stroke();
  }
}

/**
 * The text, or as much of its beginning as fits, with an ellipsis.
 * @param {string} text
 * @param {number} mostPx
 * @param {(text: string) => number} measure
 */
export function shortened(text, mostPx, measure) {
  if (measure(text) <= mostPx) return text;
  // By characters as a reader counts them: half of one would be drawn as a box.
  const letters = [...new Intl.Segmenter().segment(text)].map(({ segment }) => segment);
  const begun = (/** @type {number} */ count) => `${letters.slice(0, count).join("").trimEnd()}…`;
  let count = letters.length - 1;
  while (count > 1 && measure(begun(count)) > mostPx) count--;
  return begun(count);
}

/** @param {number} value @param {number} low @param {number} high */
function between(value, low, high) {
  return Math.max(low, Math.min(high, value));
}
