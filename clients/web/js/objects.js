/**
 * The objects of one session: what the user pointed at, and what the last result said about each.
 */

import { contours } from "./contours.js";
import { EXCLUDE, INCLUDE } from "./gestures.js";
import { History } from "./history.js";
import { contains, decode } from "./rle.js";

/** What a server allows that does not say. */
export const DEFAULT_MOST_OBJECTS = 64;
/** Longest side to which masks are unpacked for drawing; downloads unpack them in full. */
const DRAWN_SIDE = 1280;
const LONGEST_NAME = 40;

/**
 * @typedef {({kind: "point", x: number, y: number, label: number}
 *   | {kind: "box", x1: number, y1: number, x2: number, y2: number}) & {timeS?: number}} Mark shares of width and
 *   height, 0 to 1; in a video the time of the frame on which it was made
 *
 * @typedef {object} SegObject
 * @property {number} id
 * @property {string} name
 * @property {boolean} named whether the user gave it that name
 * @property {boolean} own whether it was made here: then it goes with its only mark
 * @property {boolean} hidden whether the user wants it out of sight; it is followed all the same
 * @property {"waiting" | "tracked" | "lost" | "low_score"} state waiting: no result yet
 * @property {Mark[]} marks in the order in which they were made
 * @property {number | null} score
 * @property {number} areaPx
 * @property {number} areaShare of the frame, 0 to 1
 * @property {[number, number, number, number] | null} boxXyxyPx
 * @property {import("./rle.js").Rle | null} rle
 * @property {import("./rle.js").Bitmap | null} bitmap
 * @property {number[][]} polygons in pixels of the bitmap
 */

export class Objects {
  /** @param {() => void} onChange called after every change */
  constructor(onChange) {
    this.onChange = onChange;
    this.history = new History();
    /** @type {Map<number, SegObject>} */
    this.byId = new Map();
    /** @type {number | null} */
    this.selected = null;
    this.nextId = 1;
  }

  get size() {
    return this.byId.size;
  }

  /** @returns {SegObject[]} */
  all() {
    return [...this.byId.values()];
  }

  /** @returns {number | null} */
  newest() {
    return this.all().at(-1)?.id ?? null;
  }

  /** @returns {SegObject} */
  add() {
    return this.put(this.nextId, true);
  }

  /**
   * An object that somebody else made.
   * @param {number} id
   */
  adopt(id) {
    return this.put(id, false);
  }

  /**
   * @param {number} id
   * @param {boolean} own
   * @returns {SegObject}
   */
  put(id, own) {
    this.nextId = Math.max(this.nextId, id + 1);
    /** @type {SegObject} */
    const object = {
      id,
      name: nameOf(id),
      named: false,
      own,
      hidden: false,
      state: "waiting",
      marks: [],
      score: null,
      areaPx: 0,
      areaShare: 0,
      boxXyxyPx: null,
      rle: null,
      bitmap: null,
      polygons: [],
    };
    this.byId.set(id, object);
    this.onChange();
    return object;
  }

  /**
   * @param {SegObject} object
   * @param {Mark} mark
   */
  mark(object, mark) {
    object.marks.push(mark);
    this.history.add(object.id, mark);
    this.onChange();
  }

  /**
   * Takes the last mark back, and its object with it if it was the only one. Returns what it was; null: there is none.
   * @returns {{object: SegObject, mark: Mark, told: boolean} | null}
   */
  undo() {
    const last = this.history.pop();
    const object = last && this.byId.get(last.objectId);
    if (!object) return null;
    this.unmark(object, last.mark);
    return { object, mark: last.mark, told: last.told };
  }

  /**
   * Takes back a mark that the server did not take, and its object with it if it was the only one. Returns whether the
   * mark was still there.
   * @param {number} id of its object
   * @param {Mark} mark
   */
  refuse(id, mark) {
    const object = this.byId.get(id);
    if (!object?.marks.includes(mark)) return false;
    this.history.drop(mark);
    this.unmark(object, mark);
    return true;
  }

  /**
   * @param {SegObject} object
   * @param {Mark} mark
   */
  unmark(object, mark) {
    object.marks = object.marks.filter((other) => other !== mark);
    if (object.marks.length || !object.own) this.onChange();
    else this.remove(object.id);
  }

  /** @param {number} id */
  remove(id) {
    this.byId.delete(id);
    this.history.forget(id);
    if (this.selected === id) this.selected = null;
    this.onChange();
  }

  /**
   * Gives an object a new id: the one that it had is somebody else's, and so is what results said of it.
   * @param {SegObject} object
   */
  renumber(object) {
    const { id } = object;
    this.byId.delete(id);
    object.id = this.nextId++;
    if (!object.named) object.name = nameOf(object.id);
    forget(object);
    this.byId.set(object.id, object);
    this.history.renumber(id, object.id);
    if (this.selected === id) this.selected = object.id;
    this.onChange();
  }

  /** The session is over that knew what was made here: nothing of it can be taken back in another one. */
  disown() {
    this.history.clear();
    for (const object of this.byId.values()) object.own = false;
    this.onChange();
  }

  /** Forgets all. Ids go on: a result that is still on its way must not be taken for a new object's. */
  clear() {
    this.byId.clear();
    this.history.clear();
    this.selected = null;
    this.onChange();
  }

  /** For a new session: forgets all, and ids start again. */
  restart() {
    this.nextId = 1;
    this.clear();
  }

  /** @param {number | null} id */
  select(id) {
    this.selected = id;
    this.onChange();
  }

  /**
   * @param {number} id
   * @param {string} name nothing but blanks: the name that it had at first
   */
  rename(id, name) {
    const object = this.byId.get(id);
    if (!object) return;
    const wanted = name.trim().replace(/\s+/g, " ").slice(0, LONGEST_NAME);
    object.named = wanted !== "" && wanted !== nameOf(id);
    object.name = object.named ? wanted : nameOf(id);
    this.onChange();
  }

  /**
   * @param {number} id
   * @param {boolean} hidden
   */
  setHidden(id, hidden) {
    const object = this.byId.get(id);
    if (!object) return;
    object.hidden = hidden;
    this.onChange();
  }

  /**
   * The newest object whose mask is to be seen at the point.
   * @param {number} x @param {number} y shares of width and height
   * @returns {number | null}
   */
  at(x, y) {
    const hit = this.all().findLast(({ hidden, bitmap }) => !hidden && bitmap && contains(bitmap, x, y));
    return hit?.id ?? null;
  }

  /**
   * Shows what a result says and nothing else: another frame is looked at.
   * @param {{width: number, height: number, objects: any[]} | null} result null: nothing is known of that frame
   */
  show(result) {
    for (const object of this.byId.values()) forget(object);
    if (result) this.apply(result);
    else this.onChange();
  }

  /**
   * Takes over what a result says. Objects that it does not name keep what they have; those removed here in the
   * meantime stay removed.
   * @param {{width: number, height: number, objects: any[]}} result
   */
  apply(result) {
    for (const found of result.objects) {
      const object = this.byId.get(found.object_id);
      if (!object) continue;
      object.state = found.state;
      object.score = found.score;
      object.areaPx = found.area_px;
      object.areaShare = found.area_px / (result.width * result.height);
      object.boxXyxyPx = found.box_xyxy_px;
      object.rle = found.rle ?? null;
      const visible = found.rle && found.area_px > 0;
      object.bitmap = visible ? decode(found.rle, DRAWN_SIDE) : null;
      object.polygons = object.bitmap ? contours(object.bitmap) : [];
    }
    this.onChange();
  }
}

/** @param {number} id */
function nameOf(id) {
  return `Object ${id}`;
}

/** @param {SegObject} object */
function forget(object) {
  Object.assign(object, { state: "waiting", score: null, areaPx: 0, areaShare: 0, boxXyxyPx: null, rle: null });
  object.bitmap = null;
  object.polygons = [];
}

/**
 * All marks of an object as one prompt, in pixels of a frame of `width` x `height`.
 * @param {number} objectId
 * @param {Mark[]} marks
 * @param {number} width @param {number} height
 */
export function promptOf(objectId, marks, width, height) {
  const points = marks.filter((mark) => mark.kind === "point");
  const box = marks.findLast((mark) => mark.kind === "box");
  /** @type {Record<string, unknown>} */
  const prompt = { object_id: objectId };
  if (points.length) {
    prompt.points_xy_px = points.map(({ x, y }) => [inFrame(x, width), inFrame(y, height)]);
    prompt.labels = points.map(({ label }) => (label === INCLUDE ? INCLUDE : EXCLUDE));
  }
  if (box) {
    prompt.box_xyxy_px = [box.x1 * width, box.y1 * height, box.x2 * width, box.y2 * height].map(tenth);
  }
  return prompt;
}

/**
 * A share as a pixel coordinate with 0 <= value < size.
 * @param {number} share @param {number} size
 */
function inFrame(share, size) {
  return Math.max(0, Math.min(tenth(share * size), size - 0.1));
}

/** @param {number} value */
function tenth(value) {
  return Math.round(value * 10) / 10;
}
