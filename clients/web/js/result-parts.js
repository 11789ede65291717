/**
 * Results that come over a data channel in parts, in any order, and some never.
 */

const HEADER_BYTES = 8;
const MOST_PARTS = 64;
/** Incomplete results that are kept; a channel that loses parts must not fill the memory. */
const MOST_INCOMPLETE = 16;

export class ResultParts {
  constructor() {
    /** @type {Map<number, {parts: Uint8Array[], missing: number}>} */
    this.incomplete = new Map();
    /** @type {number | null} the number of the newest result that was complete */
    this.newest = null;
    /** Results that never came whole. */
    this.lost = 0;
  }

  /**
   * Takes one message.
   * @param {ArrayBuffer} message
   * @returns {any} the result that it completes; null: none, or one that is older than what was there already
   */
  take(message) {
    if (message.byteLength < HEADER_BYTES) return null;
    const header = new DataView(message);
    const number = header.getUint32(0);
    const part = header.getUint16(4);
    const count = header.getUint16(6);
    if (count < 1 || count > MOST_PARTS || part >= count || !this.isNew(number)) return null;
    let result = this.incomplete.get(number);
    if (!result) {
      result = { parts: new Array(count), missing: count };
      this.incomplete.set(number, result);
      if (this.incomplete.size > MOST_INCOMPLETE) this.incomplete.delete(this.oldest());
    }
    if (result.parts.length !== count || result.parts[part]) return null;
    result.parts[part] = new Uint8Array(message, HEADER_BYTES);
    if (--result.missing) return null;
    return this.complete(number, result.parts);
  }

  /**
   * @param {number} number
   * @param {Uint8Array[]} parts
   */
  complete(number, parts) {
    this.lost += this.newest === null ? number : ahead(number, this.newest) - 1;
    this.newest = number;
    for (const other of [...this.incomplete.keys()]) if (!this.isNew(other)) this.incomplete.delete(other);
    const decoder = new TextDecoder();
    const text = parts.map((bytes) => decoder.decode(bytes, { stream: true })).join("") + decoder.decode();
    return JSON.parse(text);
  }

  /** @param {number} number */
  isNew(number) {
    return this.newest === null || ahead(number, this.newest) > 0;
  }

  oldest() {
    return [...this.incomplete.keys()].reduce((oldest, number) => (ahead(number, oldest) < 0 ? number : oldest));
  }
}

/**
 * How far a number is ahead of another one, both modulo 2^32.
 * @param {number} number @param {number} other
 */
export function ahead(number, other) {
  return (number - other) | 0;
}
