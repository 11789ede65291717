/**
 * On which picture each object was last seen, and its mask there. A new session starts from these: a lost object from
 * an older picture than one that is in sight.
 */

/** @typedef {import("./rle.js").Rle} Rle */

/**
 * @template Picture
 * @typedef {{picture: Picture, prompts: {object_id: number, mask: Rle}[]}} Round what to say on one picture
 */

/** @template Picture */
export class Sightings {
  constructor() {
    /** @type {Map<number, {picture: Picture, mask: Rle, at: number}>} */
    this.byId = new Map();
    this.count = 0;
  }

  /** @param {number} id */
  has(id) {
    return this.byId.has(id);
  }

  /**
   * @param {Picture} picture
   * @param {any[]} found the objects of its result
   * @param {(id: number) => boolean} isKnown whether there still is such an object
   * @returns {Picture[]} pictures that are no longer needed
   */
  note(picture, found, isKnown) {
    const before = this.pictures().add(picture);
    const at = ++this.count;
    for (const id of [...this.byId.keys()]) if (!isKnown(id)) this.byId.delete(id);
    for (const { object_id: id, state, rle: mask } of found) {
      if (state === "tracked" && mask && isKnown(id)) this.byId.set(id, { picture, mask, at });
    }
    const needed = this.pictures();
    return [...before].filter((other) => !needed.has(other));
  }

  pictures() {
    return new Set([...this.byId.values()].map(({ picture }) => picture));
  }

  /**
   * Everything that is known, picture by picture, the oldest first.
   * @returns {Round<Picture>[]}
   */
  rounds() {
    /** @type {Map<Picture, Round<Picture>>} */
    const rounds = new Map();
    for (const [id, { picture, mask }] of [...this.byId].sort(([, a], [, b]) => a.at - b.at)) {
      const round = rounds.get(picture) ?? { picture, prompts: [] };
      round.prompts.push({ object_id: id, mask });
      rounds.set(picture, round);
    }
    return [...rounds.values()];
  }

  clear() {
    this.byId.clear();
  }
}
