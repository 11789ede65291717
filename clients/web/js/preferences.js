/**
 * What the user chose, remembered by this browser. Where it may not remember, a choice lasts as long as the page.
 */

const PREFIX = "streamseg.";

/**
 * @param {string} name
 * @param {string} otherwise
 */
export function rememberedWord(name, otherwise) {
  try {
    return localStorage.getItem(PREFIX + name) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/**
 * @param {string} name
 * @param {string} value
 */
export function rememberWord(name, value) {
  try {
    localStorage.setItem(PREFIX + name, value);
  } catch {
    // Nothing depends on it.
  }
}

/**
 * @param {string} name
 * @param {boolean} otherwise
 */
export function remembered(name, otherwise) {
  return rememberedWord(name, otherwise ? "on" : "off") === "on";
}

/**
 * @param {string} name
 * @param {boolean} value
 */
export function remember(name, value) {
  rememberWord(name, value ? "on" : "off");
}
