/**
 * The marks of a session in the order in which they were made: the last one can be taken back, and so can one that the
 * server does not take, wherever it stands.
 */

/**
 * @typedef {import("./objects.js").Mark} Mark
 * @typedef {object} Entry
 * @property {number} objectId
 * @property {Mark} mark
 * @property {boolean} told whether the session on the server knows of it
 */

export class History {
  constructor() {
    /** @type {Entry[]} */
    this.entries = [];
  }

  get size() {
    return this.entries.length;
  }

  /**
   * @param {number} objectId
   * @param {Mark} mark
   */
  add(objectId, mark) {
    this.entries.push({ objectId, mark, told: false });
  }

  /** Takes out the newest. */
  pop() {
    return this.entries.pop() ?? null;
  }

  /** @param {Mark} mark */
  tell(mark) {
    const entry = this.entries.find((other) => other.mark === mark);
    if (entry) entry.told = true;
  }

  untold() {
    return this.entries.filter(({ told }) => !told);
  }

  /** @param {Mark} mark */
  drop(mark) {
    this.entries = this.entries.filter((entry) => entry.mark !== mark);
  }

  /**
   * @param {number} objectId
   * @param {Mark} [kept] stays
   */
  forget(objectId, kept) {
    this.entries = this.entries.filter((entry) => entry.objectId !== objectId || entry.mark === kept);
  }

  /**
   * @param {number} objectId
   * @param {number} id that it has from now on
   */
  renumber(objectId, id) {
    for (const entry of this.entries) if (entry.objectId === objectId) entry.objectId = id;
  }

  clear() {
    this.entries = [];
  }

  /**
   * The session has ended. An object that goes on by its mask no longer hangs on the marks that the session knew of;
   * everything else has to be told again.
   * @param {(objectId: number) => boolean} goesOn
   */
  sessionEnded(goesOn) {
    this.entries = this.entries.filter(({ objectId, told }) => !told || !goesOn(objectId));
    for (const entry of this.entries) entry.told = false;
  }
}
