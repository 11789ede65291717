/**
 * What the server is told about the objects, wherever the pictures come from; what it does not take is taken back here.
 */

import { EXCLUDE } from "./gestures.js";
import { promptOf } from "./objects.js";

/** @typedef {import("./objects.js").SegObject} SegObject */
/** @typedef {import("./objects.js").Mark} Mark */
/** @typedef {import("./messages.js").ServerError} ServerError */

export class Telling {
  /**
   * @param {import("./connection.js").Connection} connection
   * @param {import("./objects.js").Objects} objects
   * @param {() => "track" | "image"} mode of the session
   */
  constructor(connection, objects, mode) {
    this.connection = connection;
    this.objects = objects;
    this.mode = mode;
  }

  /**
   * @param {SegObject} object
   * @param {Mark} mark
   * @param {{width: number, height: number}} size of the frames, as the server has them
   * @param {{frame?: number, own?: boolean}} [on] without a frame it is for the next one
   */
  tell(object, mark, { width, height }, on = {}) {
    const prompt = { type: "prompt", ...promptOf(object.id, [mark], width, height), ...on };
    this.objects.history.tell(mark);
    if (!startsAfresh(object, mark, this.mode())) {
      this.connection.request(prompt, mark);
      return;
    }
    object.marks = [mark];
    this.objects.history.forget(object.id, mark);
    this.connection.request({ ...prompt, replace: true }, mark);
  }

  undo() {
    this.connection.request({ type: "undo" });
  }

  /** @param {number} id */
  remove(id) {
    this.connection.request({ type: "remove", object_id: id });
  }

  reset() {
    this.connection.request({ type: "reset" });
  }

  /**
   * An error of the server's. Returns whether it is still to be told.
   * @param {ServerError} error
   * @param {Record<string, any> | null} request that it answers
   * @param {Mark | null} mark that the request told
   */
  failed(error, request, mark) {
    if (error.code === "not_found" && request?.type === "remove") return false;
    if (error.code === "bad_state" && request?.type === "undo") {
      // The server has nothing left to take back.
      this.objects.history.clear();
      this.objects.onChange();
      return false;
    }
    return request?.type !== "prompt" || this.refused(request.object_id, mark);
  }

  /**
   * Takes back here what the server did not take. Returns whether it was still there.
   * @param {number} id
   * @param {Mark | null} mark null: the object was to go on from where it was last seen
   */
  refused(id, mark) {
    const { objects } = this;
    if (mark ? !objects.refuse(id, mark) : !objects.byId.has(id)) return false;
    if (!mark) objects.remove(id);
    if (!objects.byId.has(id)) this.remove(id);
    return true;
  }
}

/**
 * A lost object starts afresh where it is clicked: what was known of it no longer holds. Only the tracker remembers it,
 * and is corrected.
 * @param {SegObject} object
 * @param {Mark} mark
 * @param {"track" | "image"} mode
 */
function startsAfresh({ state }, mark, mode) {
  return mode === "image" && state === "lost" && (mark.kind === "box" || mark.label !== EXCLUDE);
}
