/**
 * Frames on their way to the server: taken, encoded, sent in order, and kept until their result is back, so that a
 * mask is drawn over exactly its own frame. They go as JPEG, or as the video of a canvas.
 */

/** Long side of the frames that are sent; models look at fewer pixels than that. */
const SENT_SIDE = 640;
/** Long side of the frames that are kept and shown. */
export const SHOWN_SIDE = 1280;
const JPEG_QUALITY = 0.8;
/** What the video loses on its way is never answered. */
const GIVEN_UP_MS = 2000;
/** Of a picture in full size there is no room for more. */
const MOST_FILMED = 12;

/** @typedef {{picture: HTMLCanvasElement, takenMs: number}} Filmed */

/**
 * @param {number} width @param {number} height @param {number} side
 * @returns {{width: number, height: number}} same shape, the long side at most `side`
 */
export function fitted(width, height, side) {
  const scale = Math.min(1, side / Math.max(width, height));
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}

export class Frames {
  /** @param {(index: number, timestampMs: number, jpeg: Uint8Array) => boolean} send whether it could be sent */
  constructor(send) {
    this.send = send;
    this.encoder = document.createElement("canvas");
    /** What the video shows. */
    this.screen = document.createElement("canvas");
    /** @type {HTMLCanvasElement[]} */
    this.spare = [];
    this.shown = { width: 1, height: 1 };
    this.sent = { width: 1, height: 1 };
    this.restart();
  }

  /** For a new session: nothing is on its way, indices start again. */
  restart() {
    /** @type {Map<number, HTMLCanvasElement>} */
    this.onTheWay = new Map();
    /** @type {Map<number, number>} */
    this.takenMs = new Map();
    /** @type {Filmed[]} in the order in which they were taken */
    this.filmed = [];
    this.nextIndex = 0;
    this.round = {};
    this.queue = Promise.resolve();
  }

  /**
   * @param {number} width @param {number} height of the source
   */
  setSize(width, height) {
    this.shown = fitted(width, height, SHOWN_SIDE);
    this.sent = fitted(width, height, SENT_SIDE);
    this.spare = [];
  }

  get waiting() {
    return this.onTheWay.size;
  }

  /** The same, of the video. */
  get filming() {
    const nowMs = performance.now();
    return this.filmed.filter(({ takenMs }) => nowMs - takenMs < GIVEN_UP_MS).length;
  }

  /**
   * Keeps what the source shows now and sends it.
   * @param {HTMLVideoElement | HTMLCanvasElement} source
   */
  take(source) {
    const index = this.nextIndex++;
    const takenMs = performance.now();
    const kept = this.keep(source);
    this.onTheWay.set(index, kept);
    this.takenMs.set(index, takenMs);
    Object.assign(this.encoder, this.sent);
    draw(kept, this.encoder);
    const encoded = toJpeg(this.encoder);
    const { round } = this;
    // Encoders may finish out of order; indices must not.
    this.queue = this.queue.then(async () => {
      const jpeg = await encoded;
      if (round !== this.round) return;
      if (!jpeg || !this.send(index, takenMs, jpeg)) this.release(index);
    });
  }

  /**
   * Keeps what the source shows now and has the video show it.
   * @param {HTMLVideoElement | HTMLCanvasElement} source
   */
  film(source) {
    const takenMs = performance.now();
    const picture = this.keep(source);
    this.filmed.push({ picture, takenMs });
    if (this.filmed.length > MOST_FILMED) this.giveBack([/** @type {Filmed} */ (this.filmed.shift()).picture]);
    const { width, height } = this.sent;
    if (this.screen.width !== width || this.screen.height !== height) Object.assign(this.screen, this.sent);
    draw(picture, this.screen);
    return takenMs;
  }

  /**
   * @param {HTMLVideoElement | HTMLCanvasElement} source
   * @returns {HTMLCanvasElement}
   */
  keep(source) {
    const kept = this.spare.pop() ?? document.createElement("canvas");
    Object.assign(kept, this.shown);
    draw(source, kept);
    return kept;
  }

  /**
   * The same as `arrived`, of a frame of the video.
   * @param {Filmed} found
   */
  arrivedFilmed(found) {
    const older = this.filmed.filter(({ takenMs }) => takenMs < found.takenMs);
    this.giveBack(older.map(({ picture }) => picture));
    this.filmed = this.filmed.filter(({ takenMs }) => takenMs > found.takenMs);
    this.giveUp(found.takenMs);
    return found.picture;
  }

  /**
   * Where frames go both ways, one of the video may have taken the place of a JPEG.
   * @param {number} [beforeMs] of which nothing is waited for any more
   */
  giveUp(beforeMs = performance.now() - GIVEN_UP_MS) {
    for (const [index, takenMs] of [...this.takenMs]) if (takenMs < beforeMs) this.release(index);
  }

  /**
   * The frame of a result. It and all older ones are no longer on their way.
   * @param {number} index
   * @returns {HTMLCanvasElement | null} the caller's until it is given back
   */
  arrived(index) {
    const kept = this.onTheWay.get(index) ?? null;
    this.onTheWay.delete(index);
    this.takenMs.delete(index);
    for (const older of [...this.onTheWay.keys()]) if (older < index) this.release(older);
    return kept;
  }

  /** @param {(HTMLCanvasElement | null)[]} pictures to be used again */
  giveBack(pictures) {
    for (const picture of pictures) if (picture) this.spare.push(picture);
  }

  /** @param {number} index */
  release(index) {
    const kept = this.onTheWay.get(index);
    if (kept) this.spare.push(kept);
    this.onTheWay.delete(index);
    this.takenMs.delete(index);
  }
}

/**
 * @param {CanvasImageSource} source
 * @param {HTMLCanvasElement} canvas
 */
function draw(source, canvas) {
  canvas.getContext("2d")?.drawImage(source, 0, 0, canvas.width, canvas.height);
}

/**
 * @param {HTMLCanvasElement} canvas read at once, it may be drawn to afterwards
 * @returns {Promise<Uint8Array | null>}
 */
export async function toJpeg(canvas) {
  /** @type {Blob | null} */
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", JPEG_QUALITY));
  return blob && new Uint8Array(await blob.arrayBuffer());
}
