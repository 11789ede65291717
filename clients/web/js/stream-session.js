/**
 * A session that looks at a stream: a network camera that the server opens, or a stream that it has already and that
 * others may look at, too. Pictures come with their results; what is clicked is said about the picture that is shown.
 */

import { Connection } from "./connection.js";
import { SharedObjects } from "./shared-objects.js";
import { Telling } from "./telling.js";

/** An address that was open once is tried again, whatever has become of it; the server may have restarted. */
const MAY_PASS = new Set(["stream_unavailable", "overloaded", "bad_state", "internal"]);
const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 10_000;

/** @typedef {import("./objects.js").SegObject} SegObject */
/** @typedef {import("./objects.js").Mark} Mark */
/** @typedef {import("./messages.js").ServerError} ServerError */
/** @typedef {"connecting" | "live" | "lost" | "ended"} SourceState see the protocol's message `source` */

/**
 * What to look at: an address, which may be given a name for others; or a stream by its name, in the mode that it has.
 * @typedef {{url: string, name: string | null} | {url: null, name: string, mode: "track" | "image"}} Wanted
 *
 * @typedef {object} StreamHooks
 * @property {() => "track" | "image"} mode for a stream that is opened here
 * @property {(ready: any) => void} onReady
 * @property {(result: any, picture: ImageBitmap) => void} onResult objects know what it says already
 * @property {() => void} onShape the picture has another shape than the objects were followed in
 * @property {(error: ServerError) => void} onFailed
 * @property {(error: ServerError) => void} onRefused there is no such stream, or it cannot be had; the session is over
 * @property {(state: SourceState, message: string) => void} onSource
 * @property {() => void} onAnew the stream was opened anew and does not know the objects
 * @property {(state: import("./connection.js").ConnectionState, why: string) => void} onState
 */

export class StreamSession {
  /**
   * @param {import("./connection.js").Surroundings} server
   * @param {import("./objects.js").Objects} objects
   * @param {Wanted} wanted
   * @param {StreamHooks} hooks
   */
  constructor(server, objects, wanted, hooks) {
    this.objects = objects;
    this.wanted = wanted;
    this.hooks = hooks;
    this.shared = new SharedObjects(objects);
    this.size = { width: 1, height: 1 };
    /** Whether pictures came before. */
    this.opened = false;
    /** Whether no result of the session that there is was shown yet. */
    this.fresh = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.retryTimer = undefined;
    this.retries = 0;
    /** @type {{result: any, jpeg: Uint8Array<ArrayBuffer>, round: object} | null} the newest result that is not shown yet */
    this.newest = null;
    this.unpacking = false;
    this.round = {};
    this.connection = new Connection(server, {
      start: () => this.start(),
      onMessage: (message) => void (message.type === "source" && hooks.onSource(message.state, message.message)),
      onReady: (ready) => this.begin(ready),
      // Results come by themselves, of the objects that there were.
      onResumed: () => {},
      onResult: (result, attachments) => this.result(result, attachments),
      onError: (error, request, mark) => this.failed(error, request, mark),
      onState: (state, why) => this.changed(state, why),
    });
    this.telling = new Telling(this.connection, objects, () => this.mode);
  }

  get state() {
    return this.connection.state;
  }

  get mode() {
    return this.wanted.url === null ? this.wanted.mode : this.hooks.mode();
  }

  /** Fields of the `start` message. */
  start() {
    const { url, name } = this.wanted;
    const common = { masks: "rle", picture: true };
    if (url === null) return { source: "stream", name, ...common };
    return { source: "url", url, ...(name && { name }), mode: this.mode, carry: true, ...common };
  }

  open() {
    this.connection.wake();
  }

  /** The same stream in another session; one that was opened here is opened anew. */
  openAnew() {
    this.connection.close();
    this.open();
  }

  close() {
    clearTimeout(this.retryTimer);
    this.round = {};
    this.connection.close();
  }

  /**
   * @param {SegObject} object
   * @param {Mark} mark
   * @param {number | null} shownIndex the picture that it was made on, of the session that there is
   */
  marked(object, mark, shownIndex) {
    const on = { frame: /** @type {number} */ (shownIndex) };
    this.shared.told(object.id);
    this.telling.tell(object, mark, this.size, object.own ? { ...on, own: true } : on);
  }

  /**
   * @param {SegObject} _object
   * @param {boolean} told
   */
  undone(_object, told) {
    // An object goes from the stream with its prompt, unless others have said something about it.
    if (told) this.telling.undo();
  }

  /** @param {number} id */
  removed(id) {
    this.telling.remove(id);
  }

  cleared() {
    this.telling.reset();
  }

  /** @param {any} ready */
  begin(ready) {
    this.fresh = true;
    this.retries = 0;
    this.round = {};
    this.hooks.onReady(ready);
  }

  /**
   * @param {any} result
   * @param {{header: any, payload: Uint8Array<ArrayBuffer>}[]} attachments
   */
  result(result, attachments) {
    const picture = attachments.find(({ header }) => header.type === "picture");
    if (!picture) return;
    this.newest = { result, jpeg: picture.payload, round: this.round };
    if (!this.unpacking) void this.unpack();
  }

  /** Unpacks one picture at a time; of those that come meanwhile the newest. */
  async unpack() {
    this.unpacking = true;
    for (let next = this.newest; next; next = this.newest) {
      this.newest = null;
      const picture = await createImageBitmap(new Blob([next.jpeg], { type: "image/jpeg" })).catch(() => null);
      if (picture && next.round === this.round) this.show(next.result, picture);
      picture?.close();
    }
    this.unpacking = false;
  }

  /**
   * @param {any} result
   * @param {ImageBitmap} picture
   */
  show(result, picture) {
    this.size = { width: result.width, height: result.height };
    const gone = this.shared.take(result);
    if (gone && this.fresh && this.opened) this.hooks.onAnew();
    this.opened = true;
    this.fresh = false;
    this.hooks.onResult(result, picture);
  }

  /**
   * @param {ServerError} error
   * @param {Record<string, any> | null} request
   * @param {Mark | null} mark that the request told
   */
  failed(error, request, mark) {
    if (this.state === "connecting") return this.refused(error);
    if (error.code === "frame_size") {
      if (this.objects.size) this.hooks.onShape();
      return;
    }
    if (error.code === "object_taken" && request && mark) return this.taken(request, mark);
    if (this.telling.failed(error, request, mark)) this.hooks.onFailed(error);
  }

  /**
   * Somebody else chose the same id at the same moment: the object that was made here gets another one.
   * @param {Record<string, any>} request
   * @param {Mark} mark that it told
   */
  taken(request, mark) {
    const object = this.objects.all().find(({ marks }) => marks.includes(mark));
    // It was taken back in the meantime.
    if (!object) return;
    if (object.id === request.object_id) {
      this.objects.renumber(object);
      this.shared.renumbered(request.object_id, object.id);
    }
    this.connection.request({ ...request, object_id: object.id }, mark);
  }

  /**
   * The server does not let this page look.
   * @param {ServerError} error
   */
  refused(error) {
    this.connection.close();
    if (!this.opened || this.wanted.url === null || !MAY_PASS.has(error.code)) return this.hooks.onRefused(error);
    this.hooks.onSource("lost", error.message);
    this.retryTimer = setTimeout(() => this.open(), Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.retries++));
  }

  /**
   * @param {import("./connection.js").ConnectionState} state
   * @param {string} why
   */
  changed(state, why) {
    if (state !== "ready") {
      this.round = {};
      if (this.connection.away) this.objects.onChange();
      else this.objects.disown();
    }
    this.hooks.onState(state, why);
    // Somebody who looks at a stream without pictures wants to see them when they come.
    if (state === "asleep") this.open();
  }
}
