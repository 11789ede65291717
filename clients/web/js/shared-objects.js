/**
 * Objects that several pages share: those of others come with the results, and go when results name them no more.
 */

/** So many results may be on their way while the server hears what was clicked or removed here. */
const MOST_ON_THE_WAY = 20;

export class SharedObjects {
  /** @param {import("./objects.js").Objects} objects */
  constructor(objects) {
    this.objects = objects;
    /** Ids that were here when this page last looked. @type {Set<number>} */
    this.known = new Set();
    /** Made here, with how many results did not name them yet. @type {Map<number, number>} */
    this.coming = new Map();
    /** Removed here, with how many results still named them. @type {Map<number, number>} */
    this.going = new Map();
  }

  /**
   * The server is told about an object.
   * @param {number} id
   */
  told(id) {
    if (!this.known.has(id)) this.coming.set(id, 0);
    this.known.add(id);
  }

  /**
   * An object that was made here has another id, and the server is told about it anew.
   * @param {number} former which is somebody else's
   * @param {number} id
   */
  renumbered(former, id) {
    this.known.delete(former);
    this.coming.delete(former);
    this.told(id);
  }

  /**
   * Takes over what a result says. Returns how many objects have gone that others removed.
   * @param {any} result
   */
  take(result) {
    const { objects } = this;
    const named = new Set(/** @type {number[]} */ (result.objects.map((/** @type {any} */ one) => one.object_id)));
    for (const id of this.known) if (!objects.byId.has(id)) this.going.set(id, this.going.get(id) ?? 0);
    for (const id of named) {
      this.coming.delete(id);
      if (!objects.byId.has(id) && !lasts(this.going, id)) objects.adopt(id);
    }
    for (const id of [...this.going.keys()]) if (!named.has(id) || objects.byId.has(id)) this.going.delete(id);
    const gone = objects.all().filter(({ id }) => this.known.has(id) && !named.has(id) && !lasts(this.coming, id));
    for (const { id } of gone) objects.remove(id);
    this.known = new Set(objects.byId.keys());
    for (const id of [...this.coming.keys()]) if (!this.known.has(id)) this.coming.delete(id);
    objects.apply(result);
    return gone.length;
  }
}

/**
 * Counts one more result. Returns whether what is waited for may still happen.
 * @param {Map<number, number>} counts
 * @param {number} id
 */
function lasts(counts, id) {
  const count = counts.get(id);
  if (count === undefined) return false;
  counts.set(id, count + 1);
  return count < MOST_ON_THE_WAY;
}
