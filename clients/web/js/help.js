/**
 * Help: a dialog that lists keys and gestures, those of the device at hand, and whether single letters do anything.
 */

import { icon, part, setText } from "./dom.js";
import { remember, remembered } from "./preferences.js";

const PREFERENCE = "keys";
const KEYS_TITLE = "Keyboard and mouse";
const TOUCH_TITLE = "Touch";

/**
 * Whether a key that was pressed is meant as a shortcut, and not as text or as a key of a control.
 * @param {KeyboardEvent} event
 */
export function isShortcut({ target, ctrlKey, metaKey, altKey, defaultPrevented, repeat }) {
  if (ctrlKey || metaKey || altKey || defaultPrevented || repeat || document.querySelector("dialog[open]")) return false;
  if (target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement) return false;
  return !(target instanceof HTMLInputElement) || target.type === "radio" || target.type === "checkbox";
}

/** Whether single letters are shortcuts: speech input may set them off by accident. */
export function letterKeys() {
  return remembered(PREFERENCE, true);
}

/**
 * Single letters as shortcuts of a panel, while it is open.
 * @param {HTMLElement} panel
 * @param {Record<string, () => void>} actions by lower-case letter
 */
export function onLetters(panel, actions) {
  document.addEventListener("keydown", (event) => {
    const action = actions[event.key.toLowerCase()];
    if (!action || panel.hidden || !isShortcut(event) || !letterKeys()) return;
    event.preventDefault();
    action();
  });
}

export class Help {
  /**
   * @param {HTMLDialogElement} dialog
   * @param {HTMLElement} opener
   */
  constructor(dialog, opener) {
    const show = (/** @type {boolean} */ keys) => {
      part(dialog, "help-touch").hidden = keys;
      part(dialog, "help-keys").hidden = part(dialog, "help-switch").hidden = !keys;
      setText(part(dialog, "help-title"), keys ? KEYS_TITLE : TOUCH_TITLE);
      dialog.showModal();
    };
    const touch = matchMedia("(hover: none) and (pointer: coarse)");
    const named = () => {
      opener.setAttribute("aria-label", touch.matches ? TOUCH_TITLE : KEYS_TITLE);
      opener.title = touch.matches ? TOUCH_TITLE : `${KEYS_TITLE} (?)`;
      opener.replaceChildren(icon(touch.matches ? "touch" : "keyboard"));
    };
    named();
    touch.addEventListener("change", named);
    opener.addEventListener("click", () => show(!touch.matches));
    // A click beside the dialog is one on the dialog itself: all of its inside is covered by a child.
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    part(dialog, "help-close").addEventListener("click", () => dialog.close());
    /** @type {HTMLInputElement} */
    const letters = part(dialog, "help-letters");
    letters.checked = letterKeys();
    letters.addEventListener("change", () => remember(PREFERENCE, letters.checked));
    document.addEventListener("keydown", (event) => {
      if (event.key !== "?" || !isShortcut(event)) return;
      event.preventDefault();
      // Whoever presses a key has a keyboard.
      show(true);
    });
  }
}
