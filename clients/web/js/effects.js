/**
 * The effects: what is done with the objects, or with everything else.
 *
 * All of it is drawn on a layer over the picture. An effect on the background is a backdrop with holes where the objects
 * are, so that the objects are always the picture's own pixels.
 */

import { softened } from "./blur.js";
import { pathOf, shownMasks } from "./mask-path.js";
import { cssColor } from "./palette.js";

/**
 * @typedef {"overlay" | "outline" | "cutout" | "blur" | "grey" | "color" | "picture" | "spotlight"} EffectName
 * @typedef {{name: EffectName, color: string, image: ImageBitmap | null}} Effect image: the background that
 *   the user chose
 *
 * @typedef {object} Scene
 * @property {HTMLCanvasElement} picture
 * @property {import("./objects.js").SegObject[]} objects
 * @property {number | null} selected
 * @property {Effect} effect
 * @property {number} pixelRatio pixels of the layer to one of the page
 * @property {number} seeThrough how much of the picture shines through a backdrop, 0 to 1
 */

/** In the order in which they are offered. @type {{name: EffectName, words: string, says: string}[]} */
export const EFFECTS = [
  { name: "overlay", words: "Overlay", says: "Each object in its colour" },
  { name: "outline", words: "Outline", says: "A line around each object" },
  { name: "cutout", words: "Cut-out", says: "Only the objects; snapshots are transparent around them" },
  { name: "spotlight", words: "Spotlight", says: "Everything but the objects is darkened" },
  { name: "blur", words: "Blur", says: "The background is blurred" },
  { name: "grey", words: "Grey", says: "The background has no colours" },
  { name: "color", words: "Colour", says: "One colour in place of the background" },
  { name: "picture", words: "Picture", says: "A picture of yours in place of the background" },
];

/** @type {Effect} */
export const PLAIN_OVERLAY = { name: "overlay", color: "#0f766e", image: null };

const FILL_ALPHA = 0.42;
const SHADE = "rgb(6 8 14 / 0.74)";
const CHECKER_PX = 12;

/** Softer edges: lines around the hole, [width in px of the page, opacity]. @type {[number, number][]} */
const EDGE = [[2, 0.4]];
/** @type {[number, number][]} */
const GLOW = [[20, 0.14], [12, 0.22], [5, 0.32]];

/** @typedef {CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D} Context */

/** @type {Partial<Record<EffectName, (context: Context, scene: Scene) => void>>} */
const BACKDROPS = {
  cutout: checker,
  blur: (context, { picture }) => cover(context, softened(picture)),
  grey: greyed,
  color: (context, { effect }) => flood(context, effect.color),
  picture: (context, { effect }) => (effect.image ? cover(context, effect.image) : dusk(context)),
  spotlight: (context) => flood(context, SHADE),
};

/** @param {string} name */
export function isEffect(name) {
  return EFFECTS.some((effect) => effect.name === name);
}

/**
 * Whether the effect is one on the background.
 * @param {Effect} effect
 */
export function hidesBackground({ name }) {
  return BACKDROPS[name] !== undefined;
}

/**
 * Whether nothing is left to be seen of the background.
 * @param {Effect} effect
 */
export function covers({ name }) {
  return name === "cutout" || name === "color" || name === "picture";
}

/**
 * Whether the layer has to be drawn again for every picture, and not only for every mask.
 * @param {Effect} effect
 */
export function needsPicture({ name }) {
  return name === "blur" || name === "grey";
}

/**
 * Whether anything was found yet: until then the background is left as it is, so that there is something to point at.
 * Afterwards it stays hidden, even while all objects are lost.
 * @param {import("./objects.js").SegObject[]} objects
 */
export function anySeen(objects) {
  return objects.some(({ state }) => state !== "waiting");
}

/**
 * Draws the layer. It must be clear.
 * @param {Context} context
 * @param {Scene} scene
 */
export function paintEffect(context, scene) {
  const { effect, objects, selected, pixelRatio } = scene;
  const masks = shownMasks(objects);
  const backdrop = BACKDROPS[effect.name];
  if (!backdrop) {
    for (const object of masks) tint(context, object, scene);
    return;
  }
  if (!anySeen(objects)) return;
  backdrop(context, scene);
  context.globalCompositeOperation = "destination-out";
  if (scene.seeThrough) flood(context, `rgb(0 0 0 / ${scene.seeThrough})`);
  for (const object of masks) punch(context, object, effect.name === "spotlight" ? GLOW : EDGE, pixelRatio);
  context.globalCompositeOperation = "source-over";
  const chosen = masks.find(({ id }) => id === selected);
  if (chosen) onMask(context, chosen, (path, unit) => line(context, path, cssColor(chosen.id), 2 * pixelRatio * unit));
}

/**
 * Calls with the object's path and the length of a pixel of the layer, in the path's own unit.
 * @param {Context} context
 * @param {import("./objects.js").SegObject} object
 * @param {(path: Path2D, unit: number) => void} draw
 */
export function onMask(context, object, draw) {
  const { width, height } = /** @type {import("./rle.js").Bitmap} */ (object.bitmap);
  context.save();
  context.scale(context.canvas.width / width, context.canvas.height / height);
  context.lineJoin = "round";
  draw(pathOf(object), width / context.canvas.width);
  context.restore();
}

/**
 * @param {Context} context
 * @param {import("./objects.js").SegObject} object
 * @param {Scene} scene
 */
function tint(context, object, { effect, selected, pixelRatio }) {
  const { id } = object;
  const outlined = effect.name === "outline";
  onMask(context, object, (path, unit) => {
    const px = pixelRatio * unit;
    if (!outlined) {
      context.fillStyle = cssColor(id, FILL_ALPHA);
      context.fill(path, "evenodd");
    }
    if (outlined) line(context, path, "rgb(0 0 0 / 0.35)", 6 * px);
    if (id === selected) line(context, path, "#fff", (outlined ? 6 : 4.5) * px);
    line(context, path, cssColor(id), (outlined ? 3.5 : 2.25) * px);
  });
}

/**
 * @param {Context} context
 * @param {Path2D} path
 * @param {string} color
 * @param {number} width
 */
function line(context, path, color, width) {
  context.strokeStyle = color;
  context.lineWidth = width;
  context.stroke(path);
}

/**
 * A hole in the layer, with a soft edge.
 * @param {Context} context
 * @param {import("./objects.js").SegObject} object
 * @param {[number, number][]} edges
 * @param {number} pixelRatio
 */
function punch(context, object, edges, pixelRatio) {
  onMask(context, object, (path, unit) => {
    context.fillStyle = "#000";
    context.fill(path, "evenodd");
    for (const [width, alpha] of edges) line(context, path, `rgb(0 0 0 / ${alpha})`, width * pixelRatio * unit);
  });
}

/**
 * @param {Context} context
 * @param {string | CanvasPattern | CanvasGradient} style
 */
function flood(context, style) {
  context.fillStyle = style;
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
}

/**
 * Fills the layer with an image of any shape, cut where it does not fit.
 * @param {Context} context
 * @param {HTMLCanvasElement | ImageBitmap} image
 */
function cover(context, image) {
  const { width, height } = context.canvas;
  const scale = Math.max(width / image.width, height / image.height);
  const cut = { width: width / scale, height: height / scale };
  const [left, top] = [(image.width - cut.width) / 2, (image.height - cut.height) / 2];
  context.drawImage(image, left, top, cut.width, cut.height, 0, 0, width, height);
}

/**
 * @param {Context} context
 * @param {Scene} scene
 */
function greyed(context, { picture }) {
  const { width, height } = context.canvas;
  // Some browsers have no filters on a canvas; the blend mode is slower, and everywhere.
  if ("filter" in context) context.filter = "grayscale(1)";
  context.drawImage(picture, 0, 0, width, height);
  if ("filter" in context) {
    context.filter = "none";
    return;
  }
  const bare = /** @type {CanvasRenderingContext2D} */ (context);
  bare.globalCompositeOperation = "saturation";
  flood(bare, "#808080");
  bare.globalCompositeOperation = "source-over";
}

/** The background before the user has chosen a picture. @param {Context} context */
function dusk(context) {
  const { width, height } = context.canvas;
  const sky = context.createLinearGradient(0, 0, width * 0.3, height);
  for (const [at, color] of /** @type {[number, string][]} */ ([
    [0, "#1b2a5b"], [0.45, "#7b4b94"], [0.75, "#e58a7b"], [1, "#f7c98b"],
  ])) {
    sky.addColorStop(at, color);
  }
  flood(context, sky);
}

/** @type {HTMLCanvasElement | null} */
let tile = null;

/**
 * @param {Context} context
 * @param {Scene} scene
 */
function checker(context, { pixelRatio }) {
  const side = Math.round(CHECKER_PX * pixelRatio);
  if (tile?.width !== 2 * side) {
    tile = document.createElement("canvas");
    tile.width = tile.height = 2 * side;
    const squares = /** @type {CanvasRenderingContext2D} */ (tile.getContext("2d"));
    flood(squares, "#e9ebef");
    squares.fillStyle = "#c9cdd6";
    squares.fillRect(0, 0, side, side);
    squares.fillRect(side, side, side, side);
  }
  flood(context, /** @type {CanvasPattern} */ (context.createPattern(tile, "repeat")));
}
