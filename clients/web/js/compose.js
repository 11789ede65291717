/**
 * What the stage shows, as one picture to take home: with the effect, without tags and pointers.
 */

import { anySeen, onMask, paintEffect } from "./effects.js";
import { shownMasks } from "./mask-path.js";

/** @typedef {import("./effects.js").Scene} Scene */

/** A film has no transparency. */
const FILM_GROUND = "#000000";

export class Composer {
  constructor() {
    this.canvas = document.createElement("canvas");
    this.layer = document.createElement("canvas");
  }

  /**
   * Draws the scene in the picture's size onto `canvas`.
   * @param {Scene} scene
   * @param {{transparent: boolean}} options whether a cut-out is transparent around the objects, or black
   */
  draw(scene, { transparent }) {
    const { picture, effect, objects } = scene;
    const { width, height } = picture;
    const context = clear(this.canvas, width, height);
    context.drawImage(picture, 0, 0);
    const layer = clear(this.layer, width, height);
    if (transparent && effect.name === "cutout") {
      if (!anySeen(objects)) return;
      layer.fillStyle = "#000";
      for (const object of shownMasks(objects)) onMask(layer, object, (path) => layer.fill(path, "evenodd"));
      context.globalCompositeOperation = "destination-in";
    } else {
      const filmed = effect.name === "cutout" ? /** @type {const} */ ({ ...effect, name: "color", color: FILM_GROUND }) : effect;
      paintEffect(layer, { ...scene, effect: filmed, selected: null, seeThrough: 0, pixelRatio: 1 });
    }
    context.drawImage(this.layer, 0, 0);
    context.globalCompositeOperation = "source-over";
  }

  /**
   * @param {Scene} scene
   * @returns {Promise<Blob>} a PNG
   */
  async png(scene) {
    this.draw(scene, { transparent: true });
    const blob = await new Promise((resolve) => this.canvas.toBlob(resolve, "image/png"));
    if (!blob) throw new Error("this browser could not write a PNG");
    return blob;
  }
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {number} width @param {number} height
 */
function clear(canvas, width, height) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.clearRect(0, 0, width, height);
  return context;
}
