/**
 * The switch Follow: whether objects are tracked by the video model, or each frame is segmented by itself.
 */

import { fromTemplate, part, setText } from "./dom.js";
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
    this.words = part(place, "follow-words");
    this.words.id = `follow-words-${name}`;
    this.ownWords = this.words.textContent;
    this.input.setAttribute("aria-describedby", this.words.id);
    const preference = `follow.${name}`;
    this.wanted = this.input.checked = remembered(preference, true);
    this.input.addEventListener("change", () => {
      this.wanted = this.on;
      remember(preference, this.on);
      onChange();
    });
  }

  get on() {
    return this.input.checked;
  }

  /**
   * The mode is not for this page to choose.
   * @param {"track" | "image" | null} mode null: it is
   */
  fix(mode) {
    this.input.disabled = mode !== null;
    this.input.checked = mode === null ? this.wanted : mode === "track";
    setText(this.words, mode === null ? this.ownWords : "Set for everyone who looks at this stream.");
  }

  /** The `mode` of a `start`. */
  get mode() {
    return this.on ? "track" : "image";
  }
}
