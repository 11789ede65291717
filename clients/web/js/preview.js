/**
 * The mask of a prompt on the frame on which it was made, at once: the frame goes to the server as a picture that is
 * kept open for more clicks.
 */

import { Connection } from "./connection.js";
import { toJpeg } from "./frames.js";
import { promptOf } from "./objects.js";

/** @typedef {import("./objects.js").Mark} Mark */

/**
 * @typedef {object} PreviewHooks
 * @property {(timeS: number) => {id: number, marks: Mark[]}[]} marksAt the objects with marks on that frame
 * @property {(timeS: number, result: any) => void} onResult
 * @property {(error: any, request: Record<string, any> | null, mark: Mark | null) => void} onError with the newest mark
 *   that the request told
 * @property {(state: import("./connection.js").ConnectionState, why: string) => void} onState
 */

export class Preview {
  /**
   * @param {import("./connection.js").Surroundings} server
   * @param {PreviewHooks} hooks
   */
  constructor(server, hooks) {
    this.hooks = hooks;
    /** @type {number | null} the frame that the session is about */
    this.timeS = null;
    /** @type {Promise<Uint8Array | null>} */
    this.jpeg = Promise.resolve(null);
    this.size = { width: 1, height: 1 };
    this.connection = new Connection(server, {
      start: () => ({ source: "image", keep: true, masks: "rle" }),
      onReady: () => void this.ready(),
      onResult: (result) => this.timeS !== null && hooks.onResult(this.timeS, result),
      onError: hooks.onError,
      onState: hooks.onState,
    });
  }

  /**
   * A mark was made on the frame that the canvas shows; it is in the owner's list already.
   * @param {number} timeS
   * @param {HTMLCanvasElement} canvas
   * @param {number} objectId
   * @param {Mark} mark
   */
  marked(timeS, canvas, objectId, mark) {
    if (this.timeS !== timeS) {
      this.close();
      this.timeS = timeS;
      this.size = { width: canvas.width, height: canvas.height };
      this.jpeg = toJpeg(canvas);
    }
    if (!this.connection.ready) return this.connection.wake();
    this.prompt(objectId, [mark], false);
  }

  /**
   * The object's marks on the frame are now these.
   * @param {number} objectId
   * @param {Mark[]} marks
   */
  changed(objectId, marks) {
    if (!marks.length) this.connection.request({ type: "remove", object_id: objectId });
    else if (this.connection.ready) this.prompt(objectId, marks, true);
  }

  /**
   * @param {number} objectId
   * @param {Mark[]} marks
   * @param {boolean} replace
   */
  prompt(objectId, marks, replace) {
    const { width, height } = this.size;
    this.connection.request({ type: "prompt", ...promptOf(objectId, marks, width, height), replace }, marks.at(-1));
  }

  async ready() {
    const { timeS, jpeg } = this;
    if (timeS === null) return;
    for (const { id, marks } of this.hooks.marksAt(timeS)) this.prompt(id, marks, false);
    const picture = await jpeg;
    if (picture && this.jpeg === jpeg) this.connection.frame({ index: 0 }, picture);
  }

  /** Ends the session; the next mark opens one. */
  close() {
    this.timeS = null;
    this.connection.close();
  }
}
