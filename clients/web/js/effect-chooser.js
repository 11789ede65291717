/**
 * The chooser of effects, and what some of them need: a colour, a picture.
 */

import { fromTemplate, icon, part } from "./dom.js";
import { EFFECTS, PLAIN_OVERLAY, isEffect } from "./effects.js";
import * as messages from "./messages.js";
import { rememberWord, rememberedWord } from "./preferences.js";

/** Wide enough for every stage, and small in memory. */
const MOST_WIDTH = 1920;

/** @typedef {import("./effects.js").Effect} Effect */
/** @typedef {import("./effects.js").EffectName} EffectName */

export class EffectChooser {
  /**
   * @param {HTMLElement} place where it is put
   * @param {string} name of the tab, each of which remembers its own
   * @param {(effect: Effect) => void} onChange called at once, too
   * @param {(words: string) => void} onProblem
   */
  constructor(place, name, onChange, onProblem) {
    this.name = name;
    this.onChange = onChange;
    this.onProblem = onProblem;
    place.append(fromTemplate("effects-template"));
    this.color = part(place, "effect-color");
    this.file = part(place, "effect-file");
    this.extras = { color: part(place, "effect-colors"), picture: part(place, "effect-pictures") };
    this.says = part(place, "effect-says");
    const wanted = rememberedWord(`effect.${name}`, PLAIN_OVERLAY.name);
    /** @type {Effect} */
    this.effect = { ...PLAIN_OVERLAY, name: /** @type {EffectName} */ (isEffect(wanted) ? wanted : PLAIN_OVERLAY.name) };
    const color = rememberedWord(`effect.color.${name}`, PLAIN_OVERLAY.color);
    if (/^#[0-9a-f]{6}$/i.test(color)) this.effect.color = color;
    this.color.value = this.effect.color;
    /** @type {HTMLInputElement[]} */
    this.radios = EFFECTS.map((effect) => this.offer(effect, part(place, "effect-list")));
    this.color.addEventListener("input", () => this.setColor(this.color.value));
    for (const swatch of this.extras.color.querySelectorAll("button")) {
      swatch.style.setProperty("--color", swatch.dataset.color ?? "");
      swatch.addEventListener("click", () => this.setColor(swatch.dataset.color ?? PLAIN_OVERLAY.color));
    }
    this.file.addEventListener("change", () => {
      if (this.file.files[0]) void this.setPicture(this.file.files[0]);
      this.file.value = "";
    });
    this.changed();
  }

  /**
   * @param {typeof EFFECTS[number]} effect
   * @param {HTMLElement} list
   */
  offer({ name, words, says }, list) {
    const label = document.createElement("label");
    label.title = says;
    const radio = document.createElement("input");
    radio.type = "radio";
    radio.name = `effect-${this.name}`;
    radio.value = name;
    radio.addEventListener("change", () => this.choose(name));
    label.append(radio, icon(`effect-${name}`), words);
    list.append(label);
    return radio;
  }

  /** @param {EffectName} name */
  choose(name) {
    this.effect = { ...this.effect, name };
    rememberWord(`effect.${this.name}`, name);
    this.changed();
  }

  /** The one after this, round and round. */
  next() {
    const at = EFFECTS.findIndex(({ name }) => name === this.effect.name);
    this.choose(EFFECTS[(at + 1) % EFFECTS.length].name);
  }

  /** @param {string} color */
  setColor(color) {
    this.color.value = color;
    this.effect = { ...this.effect, color };
    rememberWord(`effect.color.${this.name}`, color);
    this.changed();
  }

  /** @param {File} file */
  async setPicture(file) {
    try {
      const image = await fittedBitmap(file);
      this.effect.image?.close();
      this.effect = { ...this.effect, image };
      this.changed();
    } catch {
      this.onProblem(messages.BACKGROUND_FAILED);
    }
  }

  changed() {
    const { name, color } = this.effect;
    for (const radio of this.radios) radio.checked = radio.value === name;
    for (const [of, element] of Object.entries(this.extras)) element.hidden = of !== name;
    for (const swatch of this.extras.color.querySelectorAll("button")) {
      swatch.setAttribute("aria-pressed", String(swatch.dataset.color === color));
    }
    this.says.textContent = EFFECTS.find((effect) => effect.name === name)?.says ?? "";
    this.onChange(this.effect);
  }
}

/** @param {Blob} file */
async function fittedBitmap(file) {
  const full = await createImageBitmap(file);
  if (full.width <= MOST_WIDTH) return full;
  const fitted = await createImageBitmap(full, { resizeWidth: MOST_WIDTH, resizeQuality: "high" });
  full.close();
  return fitted;
}
