/**
 * The keyboard: a dialog that lists the keys, and whether single letters do anything.
 */

import { remember, remembered } from "./preferences.js";

const PREFERENCE = "keys";

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
    opener.addEventListener("click", () => dialog.showModal());
    // A click beside the dialog is one on the dialog itself: all of its inside is covered by a child.
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.querySelector("[data-part=help-close]")?.addEventListener("click", () => dialog.close());
    const letters = /** @type {HTMLInputElement} */ (dialog.querySelector("[data-part=help-letters]"));
    letters.checked = letterKeys();
    letters.addEventListener("change", () => remember(PREFERENCE, letters.checked));
    document.addEventListener("keydown", (event) => {
      if (event.key !== "?" || !isShortcut(event)) return;
      event.preventDefault();
      dialog.showModal();
    });
  }
}
