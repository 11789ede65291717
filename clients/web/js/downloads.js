/**
 * What the user takes home from a segmented picture. All of it is at the picture's full size.
 */

import { maskToPng } from "./png.js";
import { colorOf } from "./palette.js";
import { decode } from "./rle.js";

const FILL_ALPHA = 0.5;

/** @typedef {import("./objects.js").SegObject & {rle: import("./rle.js").Rle}} Segmented */

/**
 * The objects that have a mask.
 * @param {import("./objects.js").SegObject[]} objects
 * @returns {Segmented[]}
 */
export function segmented(objects) {
  return /** @type {Segmented[]} */ (objects.filter(({ rle, areaPx }) => rle !== null && areaPx > 0));
}

/**
 * One object's mask: 8-bit grey PNG, 255 where the object is.
 * @param {Segmented} object
 */
export function maskPng(object) {
  return maskToPng(decode(object.rle));
}

/**
 * The picture where the objects are, transparent elsewhere.
 * @param {CanvasImageSource} picture @param {number} width @param {number} height
 * @param {Segmented[]} objects
 */
export function cutOutPng(picture, width, height, objects) {
  const canvas = masksOn(width, height, objects, () => [0, 0, 0, 255]);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.globalCompositeOperation = "source-in";
  context.drawImage(picture, 0, 0, width, height);
  return canvas.convertToBlob({ type: "image/png" });
}

/**
 * The picture with the masks over it.
 * @param {CanvasImageSource} picture @param {number} width @param {number} height
 * @param {Segmented[]} objects
 */
export function overlayPng(picture, width, height, objects) {
  const canvas = masksOn(width, height, objects, (id) => [...colorOf(id), Math.round(255 * FILL_ALPHA)]);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.globalCompositeOperation = "destination-over";
  context.drawImage(picture, 0, 0, width, height);
  return canvas.convertToBlob({ type: "image/png" });
}

/**
 * A line of masks.jsonl, for a picture.
 * @param {number} width @param {number} height
 * @param {Segmented[]} objects
 */
export function masksJson(width, height, objects) {
  const found = objects.map(({ id, state, score, areaPx, boxXyxyPx, rle }) => ({
    object_id: id,
    state,
    score,
    area_px: areaPx,
    box_xyxy_px: boxXyxyPx,
    rle,
  }));
  const line = { index: 0, time_s: 0, width, height, objects: found };
  return new Blob([`${JSON.stringify(line)}\n`], { type: "application/json" });
}

/**
 * @param {number} width @param {number} height
 * @param {Segmented[]} objects
 * @param {(id: number) => number[]} colorOfMask red, green, blue, alpha
 */
function masksOn(width, height, objects, colorOfMask) {
  const canvas = new OffscreenCanvas(width, height);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (const { id, rle } of objects) {
    const [color] = new Uint32Array(Uint8Array.from(colorOfMask(id)).buffer);
    const { data } = decode(rle);
    for (let at = 0; at < data.length; at++) if (data[at]) pixels[at] = color;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}
