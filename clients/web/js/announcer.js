/**
 * What a screen reader is told of objects that get lost and come back: not more often than one can listen, and only
 * what still holds when it is said.
 */

const PAUSE_MS = 2500;

/** @typedef {Pick<import("./objects.js").SegObject, "id" | "name" | "state">} Told */

export class Announcer {
  constructor() {
    /** @type {Map<number, boolean>} whether the object was last said to be in sight */
    this.said = new Map();
    this.quietUntilMs = 0;
  }

  /**
   * What is to be said now; empty: nothing.
   * @param {Told[]} objects
   * @param {number} nowMs
   */
  words(objects, nowMs) {
    const ids = new Set(objects.map(({ id }) => id));
    for (const id of [...this.said.keys()]) if (!ids.has(id)) this.said.delete(id);
    if (nowMs < this.quietUntilMs) return "";
    /** @type {string[]} */
    const sentences = [];
    for (const { id, name, state } of objects) {
      if (state === "waiting") continue;
      const seen = state === "tracked";
      const before = this.said.get(id);
      if (before === seen) continue;
      this.said.set(id, seen);
      if (before === undefined) sentences.push(seen ? `${name} found.` : `${name} not found.`);
      else sentences.push(seen ? `${name} found again.` : `${name} lost.`);
    }
    if (sentences.length) this.quietUntilMs = nowMs + PAUSE_MS;
    return sentences.join(" ");
  }
}
