/**
 * The result beside the original, or over it behind a divider that can be moved.
 */

import { fromTemplate, part } from "./dom.js";

const KEY_STEP = 0.05;

export class Compare {
  /**
   * @param {HTMLElement} host
   */
  constructor(host) {
    /** Called when the result can no longer be fetched. */
    this.onGone = () => {};
    this.frame = /** @type {HTMLElement} */ (host.querySelector(".frame"));
    this.frame.append(fromTemplate("video-result-template"));
    this.figure = part(host, "result");
    this.video = /** @type {HTMLVideoElement} */ (part(host, "result-video"));
    this.divider = part(host, "divider");
    this.choice = part(host, "compare");
    this.stage = part(host, "stage");
    for (const radio of this.choice.querySelectorAll("input")) {
      radio.addEventListener("change", () => this.setMode(radio.value));
    }
    this.video.addEventListener("error", () => {
      if (!this.figure.hidden) this.onGone();
    });
    this.divider.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => {
      this.divider.setPointerCapture(event.pointerId);
    });
    this.divider.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
      if (!this.divider.hasPointerCapture(event.pointerId)) return;
      const area = this.figure.getBoundingClientRect();
      this.divide((event.clientX - area.left) / area.width);
    });
    this.divider.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      const step = { ArrowLeft: -KEY_STEP, ArrowRight: KEY_STEP, Home: -1, End: 1 }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      this.divide(this.at + step);
    });
    this.divide(0.5);
    this.hide();
  }

  /** @param {string} mode "both" or "wipe" */
  setMode(mode) {
    this.mode = mode;
    this.frame.dataset.compare = mode;
    this.divider.hidden = mode !== "wipe";
  }

  /** @param {number} at share of the width */
  divide(at) {
    this.at = Math.max(0, Math.min(1, at));
    this.figure.style.setProperty("--wipe", String(this.at));
    this.divider.setAttribute("aria-valuenow", String(Math.round(100 * this.at)));
  }

  /**
   * @param {string} url
   * @returns {Promise<boolean>} whether it can be played
   */
  show(url) {
    const { video } = this;
    this.choice.hidden = false;
    this.figure.hidden = false;
    this.setMode(this.choice.querySelector("input:checked").value);
    return new Promise((resolve) => {
      video.addEventListener("loadeddata", () => resolve(true), { once: true });
      video.addEventListener("error", () => resolve(false), { once: true });
      video.src = url;
    });
  }

  hide() {
    this.figure.hidden = this.choice.hidden = true;
    delete this.frame.dataset.compare;
    this.video.removeAttribute("src");
    this.video.load();
  }
}
