/**
 * The stage: a picture, the masks over it, and pointing at it with mouse, finger, pen or keyboard.
 *
 * Everything that leaves the stage is in shares of the picture's width and height (0 to 1), so that it does not
 * matter how large the picture is shown, drawn or sent.
 */

import { part, setText } from "./dom.js";
import { PLAIN_OVERLAY, covers, hidesBackground, needsPicture, paintEffect } from "./effects.js";
import { shownMasks } from "./mask-path.js";
import { drawBand, drawCrosshair, drawMarks, drawTag } from "./stage-marks.js";

const DRAG_PX = 6;
const TOUCH_DRAG_PX = 12;
const LONG_PRESS_MS = 500;
const KEY_STEP = 0.02;
const RIGHT_BUTTON = 2;
const MOST_PIXEL_RATIO = 2;
const SEE_THROUGH = 0.5;
/** How long the picture shines through after the pointer came to rest. */
const PEEK_MS = 1200;

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
    /** @type {import("./effects.js").Effect} */
    this.effect = PLAIN_OVERLAY;
    this.peeking = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.peekTimer = undefined;
    this.layerIsOld = false;
    this.due = false;
    /** @type {(() => void) | null} called after everything that changed was drawn */
    this.onShown = null;
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
    if (needsPicture(this.effect)) this.draw();
    else this.shownAnew();
  }

  /** Nothing is left of what was shown before. */
  clearPicture() {
    this.picture.getContext("2d")?.clearRect(0, 0, this.picture.width, this.picture.height);
    this.draw();
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

  /** Pixels of the overlay to one of the page. More than two cannot be told apart, and cost. */
  get pixelRatio() {
    return Math.min(devicePixelRatio, MOST_PIXEL_RATIO);
  }

  /** The overlay has one pixel for each pixel of the screen. */
  fit() {
    const { clientWidth, clientHeight } = this.element;
    if (!clientWidth) return;
    this.overlay.width = Math.round(clientWidth * this.pixelRatio);
    this.overlay.height = Math.round(clientHeight * this.pixelRatio);
    this.draw();
  }

  /** Draws again, once for all that changes now. */
  draw() {
    this.layerIsOld = true;
    this.shownAnew();
  }

  /** Picture and layer are drawn in one go, so that nobody sees a mask on a picture that it is not of. */
  shownAnew() {
    if (this.due) return;
    this.due = true;
    queueMicrotask(() => {
      this.due = false;
      if (this.layerIsOld) this.paint();
      this.layerIsOld = false;
      this.onShown?.();
    });
  }

  paint() {
    const context = /** @type {CanvasRenderingContext2D} */ (this.overlay.getContext("2d"));
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.overlay.width, this.overlay.height);
    const scene = this.scene();
    paintEffect(context, scene);
    context.setTransform(this.pixelRatio, 0, 0, this.pixelRatio, 0, 0);
    const size = { width: this.element.clientWidth, height: this.element.clientHeight };
    const tagged = hidesBackground(this.effect) ? [] : shownMasks(scene.objects);
    for (const object of tagged) drawTag(context, size, object);
    if (this.showMarks) {
      const marked = this.objects.filter(({ id }) => this.selected === null || this.selected === id);
      for (const object of marked) drawMarks(context, size, object, this.showsMark);
    }
    if (this.press?.box) drawBand(context, size, this.press);
    if (this.crosshair) drawCrosshair(context, size, this.crosshair);
  }

  /** @returns {import("./effects.js").Scene} what is shown now */
  scene() {
    return {
      picture: this.picture,
      // Without masks a background stays hidden: it must not flash up while a connection comes back.
      objects: this.stale ? this.objects.map((object) => ({ ...object, bitmap: null })) : this.objects,
      selected: this.selected,
      effect: this.effect,
      pixelRatio: this.pixelRatio,
      seeThrough: this.peeking ? SEE_THROUGH : 0,
    };
  }

  /** @param {import("./effects.js").Effect} effect */
  setEffect(effect) {
    this.effect = effect;
    this.draw();
  }

  /**
   * Lets the picture shine through a background that covers it, for somebody who looks for a place to click.
   * @param {number} forMs
   */
  peek(forMs) {
    if (!covers(this.effect)) return;
    clearTimeout(this.peekTimer);
    this.peekTimer = setTimeout(() => {
      this.peeking = false;
      this.draw();
    }, forMs);
    if (this.peeking) return;
    this.peeking = true;
    this.draw();
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
    if (event.pointerType !== "touch") this.peek(PEEK_MS);
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
      this.peek(3 * PEEK_MS);
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
