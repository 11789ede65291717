/**
 * What the user chose, remembered by this browser. Where it may not remember, a choice lasts as long as the page.
 */

const PREFIX = "streamseg.";

/**
 * @param {string} name
 * @param {boolean} otherwise
 */
export function remembered(name, otherwise) {
  try {
    const value = localStorage.getItem(PREFIX + name);
    return value === null ? otherwise : value === "on";
  } catch {
    return otherwise;
  }
}

/**
 * @param {string} name
 * @param {boolean} value
 */
export function remember(name, value) {
  try {
    localStorage.setItem(PREFIX + name, value ? "on" : "off");
  } catch {
    // Nothing depends on it.
  }
}
