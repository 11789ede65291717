/**
 * Frames on their way to the server: taken, encoded, sent in order, and kept until their result is back, so that a
 * mask is drawn over exactly its own frame.
 */

/** Long side of the frames that are sent; models look at fewer pixels than that. */
const SENT_SIDE = 640;
/** Long side of the frames that are kept and shown. */
const SHOWN_SIDE = 1280;
const JPEG_QUALITY = 0.8;

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

  /**
   * Keeps what the source shows now and sends it.
   * @param {HTMLVideoElement | HTMLCanvasElement} source
   */
  take(source) {
    const index = this.nextIndex++;
    const takenMs = performance.now();
    const kept = this.spare.pop() ?? document.createElement("canvas");
    Object.assign(kept, this.shown);
    draw(source, kept);
    this.onTheWay.set(index, kept);
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
   * The frame of a result. It and all older ones are no longer on their way.
   * @param {number} index
   * @returns {HTMLCanvasElement | null} the caller's until it is given back
   */
  arrived(index) {
    const kept = this.onTheWay.get(index) ?? null;
    this.onTheWay.delete(index);
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
