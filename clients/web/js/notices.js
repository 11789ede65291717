/**
 * Messages at the top of the page; one for each subject, newest words win.
 */

import { icon } from "./dom.js";

const PASSING_MS = 7000;

export class Notices {
  /** @param {HTMLElement} host */
  constructor(host) {
    this.host = host;
    /** @type {Map<string, {element: HTMLElement, timer: ReturnType<typeof setTimeout> | undefined}>} */
    this.shown = new Map();
  }

  /**
   * @param {string} subject
   * @param {string} words
   * @param {{kind?: "problem" | "good", passing?: boolean}} [options] passing: goes away by itself
   */
  show(subject, words, { kind = "problem", passing = false } = {}) {
    const current = this.shown.get(subject);
    if (current?.element.dataset.words === words && !passing) return;
    this.hide(subject);
    const element = document.createElement("div");
    element.className = "notice";
    element.dataset.kind = kind;
    element.dataset.subject = subject;
    element.dataset.words = words;
    const text = document.createElement("p");
    text.textContent = words;
    const close = document.createElement("button");
    close.type = "button";
    close.className = "icon-button";
    close.setAttribute("aria-label", "Dismiss");
    close.append(icon("close"));
    close.addEventListener("click", () => this.hide(subject));
    element.append(text, close);
    this.host.append(element);
    const timer = passing ? setTimeout(() => this.hide(subject), PASSING_MS) : undefined;
    this.shown.set(subject, { element, timer });
  }

  /** @param {string} subject */
  hide(subject) {
    const current = this.shown.get(subject);
    if (!current) return;
    clearTimeout(current.timer);
    current.element.remove();
    this.shown.delete(subject);
  }
}
