/**
 * The switch Follow: whether objects are tracked by the video model, or each frame is segmented by itself.
 */

import { fromTemplate, part } from "./dom.js";
import { remember, remembered } from "./preferences.js";

export class FollowSwitch {
  /**
   * @param {HTMLElement} place where it is put
   * @param {string} name of the tab, each of which remembers its own
   * @param {() => void} onChange
   */
  constructor(place, name, onChange) {
    place.append(fromTemplate("follow-template"));
    /** @type {HTMLInputElement} */
    this.input = part(place, "follow");
    const words = part(place, "follow-words");
    words.id = `follow-words-${name}`;
    this.input.setAttribute("aria-describedby", words.id);
    const preference = `follow.${name}`;
    this.input.checked = remembered(preference, true);
    this.input.addEventListener("change", () => {
      remember(preference, this.on);
      onChange();
    });
  }

  get on() {
    return this.input.checked;
  }

  /** The `mode` of a `start`. */
  get mode() {
    return this.on ? "track" : "image";
  }
}
