/**
 * A canvas, recorded to a file in this browser. Nothing of it goes anywhere.
 */

/** What browsers may be able to write, best first: what plays everywhere, then what needs the fewest bytes. */
const KINDS = ["video/mp4;codecs=avc1.42E01F", "video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm", "video/mp4"];
/**
 * Pictures a second, whether they differ or not: an encoder shares out its bits by them. Of a canvas that changes now
 * and then it would make each picture with the bits of one of thirty.
 */
const PICTURES_PER_S = 30;
/** Pieces this long leave the encoder, so that a long recording does not wait in its memory. */
const PIECE_MS = 1000;
const BITS_PER_PIXEL_AND_S = 4;
const LEAST_BITS_PER_S = 1_500_000;

/**
 * @param {(kind: string) => boolean} canWrite
 * @returns {string | null} null: this browser records nothing
 */
export function bestKind(canWrite) {
  return KINDS.find(canWrite) ?? null;
}

/** @param {string} kind */
export function endingOf(kind) {
  return kind.startsWith("video/mp4") ? "mp4" : "webm";
}

/** @returns {string | null} */
export function recordingKind() {
  if (!("MediaRecorder" in globalThis) || !("captureStream" in HTMLCanvasElement.prototype)) return null;
  return bestKind((kind) => MediaRecorder.isTypeSupported(kind));
}

/** @typedef {{file: Blob, ending: string, lastsMs: number}} Recording */

export class Recorder {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {string} kind
   * @param {(recording: Recording | null) => void} onDone null: there is none
   */
  constructor(canvas, kind, onDone) {
    this.beganMs = performance.now();
    this.canvas = canvas;
    this.film = document.createElement("canvas");
    this.expose();
    const stream = this.film.captureStream();
    const bits = Math.max(LEAST_BITS_PER_S, canvas.width * canvas.height * BITS_PER_PIXEL_AND_S);
    this.recorder = new MediaRecorder(stream, { mimeType: kind, videoBitsPerSecond: bits });
    /** @type {Blob[]} */
    const pieces = [];
    this.recorder.ondataavailable = ({ data }) => data.size && pieces.push(data);
    // It also stops by itself when it fails: what was recorded until then is a file all the same.
    this.recorder.onstop = () => {
      clearInterval(timer);
      const lastsMs = this.elapsedMs;
      for (const track of stream.getTracks()) track.stop();
      const file = new Blob(pieces, { type: kind.split(";")[0] });
      onDone(file.size === 0 ? null : { file, ending: endingOf(kind), lastsMs });
    };
    this.recorder.start(PIECE_MS);
    const timer = setInterval(() => this.expose(), 1000 / PICTURES_PER_S);
  }

  /** The next picture of the film. */
  expose() {
    const { canvas, film } = this;
    const { width, height } = canvas;
    if (film.width !== width || film.height !== height) Object.assign(film, { width, height });
    film.getContext("2d", { alpha: false })?.drawImage(canvas, 0, 0);
  }

  get elapsedMs() {
    return performance.now() - this.beganMs;
  }

  stop() {
    if (this.recorder.state !== "inactive") this.recorder.stop();
  }
}
