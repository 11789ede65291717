/**
 * A few words for somebody who is here for the first time.
 */

import { fromTemplate, part } from "./dom.js";
import { remember, remembered } from "./preferences.js";

export class FirstRun {
  /**
   * @param {HTMLElement} place the hint comes before everything else in it
   * @param {string} name of the tab
   */
  constructor(place, name) {
    if (!remembered(`hint.${name}`, true)) return;
    place.prepend(fromTemplate("first-run-template"));
    const hint = /** @type {HTMLElement} */ (place.firstElementChild);
    part(hint, "first-run-close").addEventListener("click", () => {
      remember(`hint.${name}`, false);
      hint.remove();
    });
  }
}
