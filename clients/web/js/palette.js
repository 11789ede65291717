/**
 * One colour for each object id: the same as in overlays that the server draws (streamseg/render.py).
 */

/** @typedef {[number, number, number]} Rgb */

// Object n has entry (n - 1) modulo the length, as in streamseg/render.py: change both together.
// prettier-ignore
export const PALETTE_HEX = [
  "#1e90ff", "#ff7f0e", "#2ecc40", "#e6194b", "#b14aed", "#ffd60a", "#00c2c7", "#ff5fa8",
  "#8c6d31", "#a6e22e", "#3b3fd8", "#ff9f80", "#007f5f", "#c9184a", "#7fb3ff", "#9a7b00",
  "#d896ff", "#4f772d", "#ff3d00", "#94d2bd",
];

/**
 * @param {number} objectId from 1 on
 * @returns {Rgb}
 */
export function colorOf(objectId) {
  const value = parseInt(PALETTE_HEX[(objectId - 1) % PALETTE_HEX.length].slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

/**
 * @param {number} objectId
 * @param {number} [alpha]
 */
export function cssColor(objectId, alpha = 1) {
  return `rgb(${colorOf(objectId).join(" ")} / ${alpha})`;
}

/**
 * Black or white, whichever is easier to read on the object's colour.
 * @param {number} objectId
 */
export function textColor(objectId) {
  const [red, green, blue] = colorOf(objectId);
  return 0.299 * red + 0.587 * green + 0.114 * blue > 150 ? "#10131a" : "#ffffff";
}
