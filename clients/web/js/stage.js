/**
 * The stage: a picture, the masks over it, and pointing at it with mouse, finger, pen or keyboard.
 *
 * Everything that leaves the stage is in shares of the picture's width and height (0 to 1), so that it does not
 * matter how large the picture is shown, drawn or sent.
 */

import { part, setText } from "./dom.js";
import { INCLUDE } from "./gestures.js";
import { cssColor, textColor } from "./palette.js";

const DRAG_PX = 6;
const TOUCH_DRAG_PX = 12;
const LONG_PRESS_MS = 500;
const KEY_STEP = 0.02;
const RIGHT_BUTTON = 2;
const FILL_ALPHA = 0.42;

/**
 * @typedef {{x: number, y: number}} Spot
 * @typedef {object} Hooks
 * @property {(spot: Spot, exclude: boolean) => void} onPoint
 * @property {(box: {x1: number, y1: number, x2: number, y2: number}) => void} onBox
 */

export class Stage {
  /**
   * @param {HTMLElement} root the workspace
   * @param {Hooks} hooks
   */
  constructor(root, hooks) {
    this.hooks = hooks;
    /** @type {HTMLElement} */
    this.element = part(root, "stage");
    /** @type {HTMLCanvasElement} */
    this.picture = part(root, "picture");
    /** @type {HTMLCanvasElement} */
    this.overlay = part(root, "overlay");
    this.hint = part(root, "hint");
    /** @type {import("./objects.js").SegObject[]} */
    this.objects = [];
    /** @type {number | null} */
    this.selected = null;
    this.showMarks = false;
    /** Whether the masks are of another picture than the one that is shown. */
    this.stale = false;
    /** @type {(mark: import("./objects.js").Mark) => boolean} which of the marks are to be seen now */
    this.showsMark = () => true;
    /** Whether arrow keys and space are for something else until the stage was reached with Tab. */
    this.keysAreTaken = false;
    this.tabbed = false;
    /** @type {{pointer: number, from: Spot, to: Spot, box: boolean, exclude: boolean, done: boolean} | null} */
    this.press = null;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.pressTimer = undefined;
    /** @type {Spot | null} where the keyboard points */
    this.crosshair = null;
    this.listen();
    new ResizeObserver(() => this.fit()).observe(this.element);
  }

  /**
   * @param {boolean} shown
   */
  show(shown) {
    this.element.hidden = !shown;
    if (shown) this.fit();
  }

  /**
   * The size in which the picture is drawn; its shape is the stage's shape.
   * @param {number} width @param {number} height
   */
  setSize(width, height) {
    if (this.picture.width === width && this.picture.height === height) return;
    this.picture.width = width;
    this.picture.height = height;
    this.element.style.setProperty("--ratio", String(width / height));
    this.fit();
  }

  /** @param {CanvasImageSource} source */
  drawPicture(source) {
    const { width, height } = this.picture;
    this.picture.getContext("2d")?.drawImage(source, 0, 0, width, height);
  }

  /** @param {boolean} stale */
  setStale(stale) {
    if (this.stale === stale) return;
    this.stale = stale;
    this.draw();
  }

  /** @param {string} words empty: none */
  setHint(words) {
    this.hint.hidden = !words;
    setText(this.hint, words);
  }

  /**
   * A ring that spreads from where the user clicked.
   * @param {Spot} spot
   * @param {string} color
   */
  ping({ x, y }, color) {
    const ring = document.createElement("span");
    ring.className = "ping";
    ring.style.left = `${x * 100}%`;
    ring.style.top = `${y * 100}%`;
    ring.style.setProperty("--color", color);
    ring.addEventListener("animationend", () => ring.remove());
    this.element.append(ring);
  }

  /** The overlay has one pixel for each pixel of the screen. */
  fit() {
    const { clientWidth, clientHeight } = this.element;
    if (!clientWidth) return;
    this.overlay.width = Math.round(clientWidth * devicePixelRatio);
    this.overlay.height = Math.round(clientHeight * devicePixelRatio);
    this.draw();
  }

  draw() {
    const context = /** @type {CanvasRenderingContext2D} */ (this.overlay.getContext("2d"));
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.overlay.width, this.overlay.height);
    const masked = this.stale ? [] : this.objects;
    for (const object of masked) this.drawMask(context, object);
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    for (const object of masked) this.drawTag(context, object);
    if (this.showMarks) for (const object of this.objects) this.drawMarks(context, object);
    if (this.press?.box) this.drawBand(context, this.press);
    if (this.crosshair) this.drawCrosshair(context, this.crosshair);
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {import("./objects.js").SegObject} object
   */
  drawMask(context, { id, bitmap, polygons }) {
    if (!bitmap) return;
    const scaleX = this.overlay.width / bitmap.width;
    const scaleY = this.overlay.height / bitmap.height;
    const path = new Path2D();
    for (const polygon of polygons) {
      path.moveTo(polygon[0] * scaleX, polygon[1] * scaleY);
      for (let at = 2; at < polygon.length; at += 2) path.lineTo(polygon[at] * scaleX, polygon[at + 1] * scaleY);
      path.closePath();
    }
    context.lineJoin = "round";
    context.fillStyle = cssColor(id, FILL_ALPHA);
    context.fill(path, "evenodd");
    if (id === this.selected) {
      context.strokeStyle = "#fff";
      context.lineWidth = 4.5 * devicePixelRatio;
      context.stroke(path);
    }
    context.strokeStyle = cssColor(id);
    context.lineWidth = 2.25 * devicePixelRatio;
    context.stroke(path);
  }

  /**
   * The object's number at the upper edge of its mask.
   * @param {CanvasRenderingContext2D} context
   * @param {import("./objects.js").SegObject} object
   */
  drawTag(context, { id, bitmap, polygons }) {
    if (!bitmap || !polygons.length) return;
    const outer = polygons.reduce((most, polygon) => (polygon.length > most.length ? polygon : most));
    let top = 0;
    for (let at = 0; at < outer.length; at += 2) if (outer[at + 1] < outer[top + 1]) top = at;
    const { clientWidth, clientHeight } = this.element;
    context.font = "600 12px system-ui, sans-serif";
    const width = Math.max(20, context.measureText(String(id)).width + 12);
    const x = clamp((outer[top] / bitmap.width) * clientWidth - width / 2, 4, clientWidth - width - 4);
    const y = clamp((outer[top + 1] / bitmap.height) * clientHeight - 24, 4, clientHeight - 24);
    context.fillStyle = cssColor(id);
    context.beginPath();
    context.roundRect(x, y, width, 20, 10);
    context.fill();
    context.fillStyle = textColor(id);
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(String(id), x + width / 2, y + 10.5);
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {import("./objects.js").SegObject} object
   */
  drawMarks(context, { id, marks }) {
    if (this.selected !== null && this.selected !== id) return;
    const { clientWidth: width, clientHeight: height } = this.element;
    for (const mark of marks) {
      if (!this.showsMark(mark)) continue;
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
   * @param {{from: Spot, to: Spot}} press
   */
  drawBand(context, { from, to }) {
    const { clientWidth: width, clientHeight: height } = this.element;
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
   * @param {Spot} spot
   */
  drawCrosshair(context, spot) {
    const { clientWidth: width, clientHeight: height } = this.element;
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

  listen() {
    const { element } = this;
    element.addEventListener("pointerdown", (event) => this.pressed(event));
    element.addEventListener("pointermove", (event) => this.moved(event));
    element.addEventListener("pointerup", (event) => this.released(event));
    element.addEventListener("pointercancel", () => this.cancel());
    element.addEventListener("contextmenu", (event) => event.preventDefault());
    element.addEventListener("keydown", (event) => this.key(event));
    element.addEventListener("keyup", (event) => {
      if (event.key === "Tab") this.tabbed = true;
    });
    element.addEventListener("blur", () => {
      this.tabbed = false;
      this.dropCrosshair();
    });
  }

  /** @param {PointerEvent} event */
  spot(event) {
    const area = this.element.getBoundingClientRect();
    return {
      x: clamp((event.clientX - area.left) / area.width, 0, 1),
      y: clamp((event.clientY - area.top) / area.height, 0, 1),
    };
  }

  /** @param {PointerEvent} event */
  pressed(event) {
    if (this.press || (event.button !== 0 && event.button !== RIGHT_BUTTON)) return;
    this.tabbed = false;
    this.dropCrosshair();
    this.element.setPointerCapture(event.pointerId);
    const from = this.spot(event);
    const exclude = event.shiftKey || event.button === RIGHT_BUTTON || (event.ctrlKey && event.button === 0);
    this.press = { pointer: event.pointerId, from, to: from, box: false, exclude, done: false };
    if (event.pointerType === "touch") {
      this.pressTimer = setTimeout(() => {
        if (!this.press || this.press.box) return;
        this.press.done = true;
        navigator.vibrate?.(15);
        this.hooks.onPoint(this.press.from, true);
      }, LONG_PRESS_MS);
    }
  }

  /** @param {PointerEvent} event */
  moved(event) {
    const { press } = this;
    if (!press || press.pointer !== event.pointerId || press.done) return;
    press.to = this.spot(event);
    const { clientWidth, clientHeight } = this.element;
    const far = Math.hypot((press.to.x - press.from.x) * clientWidth, (press.to.y - press.from.y) * clientHeight);
    if (!press.exclude && far > (event.pointerType === "touch" ? TOUCH_DRAG_PX : DRAG_PX)) {
      press.box = true;
      clearTimeout(this.pressTimer);
    }
    if (press.box) this.draw();
  }

  /** @param {PointerEvent} event */
  released(event) {
    const { press } = this;
    if (!press || press.pointer !== event.pointerId) return;
    this.cancel();
    if (press.done) return;
    if (!press.box) return this.hooks.onPoint(press.from, press.exclude);
    const box = {
      x1: Math.min(press.from.x, press.to.x),
      y1: Math.min(press.from.y, press.to.y),
      x2: Math.max(press.from.x, press.to.x),
      y2: Math.max(press.from.y, press.to.y),
    };
    // A line is no box: it was a click of an unsteady hand.
    if ((box.x2 - box.x1) * this.element.clientWidth < 3 || (box.y2 - box.y1) * this.element.clientHeight < 3) {
      return this.hooks.onPoint(press.from, press.exclude);
    }
    this.hooks.onBox(box);
  }

  /** Forgets a press that has not ended. Returns whether there was one. */
  cancel() {
    const was = this.press !== null;
    clearTimeout(this.pressTimer);
    this.press = null;
    if (was) this.draw();
    return was;
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[/** @type {keyof typeof moves} */ (event.key)];
    if (this.keysAreTaken && !this.tabbed && !this.crosshair && event.key !== "Enter") return;
    const spot = this.crosshair ?? { x: 0.5, y: 0.5 };
    if (move) {
      const step = event.ctrlKey ? KEY_STEP / 4 : KEY_STEP;
      this.crosshair = { x: clamp(spot.x + move[0] * step, 0, 1), y: clamp(spot.y + move[1] * step, 0, 1) };
    } else if (event.key === "Enter" || event.key === " ") {
      this.crosshair = spot;
      this.hooks.onPoint(spot, event.shiftKey);
    } else return;
    event.preventDefault();
    this.draw();
  }

  dropCrosshair() {
    if (!this.crosshair) return;
    this.crosshair = null;
    this.draw();
  }
}

/** @param {number} value @param {number} low @param {number} high */
function clamp(value, low, high) {
  return Math.max(low, Math.min(high, value));
}
