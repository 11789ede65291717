/**
 * A file on its way to the server: slice by slice, never more than a window ahead of what the server has, so that
 * neither side ever holds the whole file in memory.
 */

/** @typedef {Pick<Blob, "size"> & {slice: (start: number, end: number) => {arrayBuffer: () => Promise<ArrayBuffer>}}} Sliced */

export class Upload {
  /**
   * @param {Sliced} file
   * @param {number} windowBytes most that may be sent without having been acknowledged
   * @param {number} chunkBytes most in one message
   * @param {(header: {type: "chunk", offset: number, last?: boolean}, payload: Uint8Array) => void} send
   */
  constructor(file, windowBytes, chunkBytes, send) {
    this.file = file;
    this.windowBytes = windowBytes;
    this.chunkBytes = Math.max(1, Math.min(chunkBytes, windowBytes));
    this.send = send;
    this.sentBytes = 0;
    this.receivedBytes = 0;
    this.stopped = false;
    this.running = false;
  }

  /** Whether the server has all of the file. */
  get complete() {
    return this.receivedBytes >= this.file.size;
  }

  /**
   * Sends as much as the window allows. Rejects if the file cannot be read any more.
   * @returns {Promise<void>}
   */
  async pump() {
    // A slice is being read already: that run goes on by itself.
    if (this.running) return;
    this.running = true;
    try {
      while (!this.stopped && this.sentBytes < this.file.size) {
        const offset = this.sentBytes;
        const end = Math.min(offset + this.chunkBytes, this.file.size);
        if (end - this.receivedBytes > this.windowBytes) return;
        const payload = new Uint8Array(await this.file.slice(offset, end).arrayBuffer());
        if (this.stopped) return;
        this.sentBytes = end;
        this.send(end === this.file.size ? { type: "chunk", offset, last: true } : { type: "chunk", offset }, payload);
      }
    } finally {
      this.running = false;
    }
  }

  /**
   * The server has this much of the file.
   * @param {number} bytes from its beginning
   */
  received(bytes) {
    this.receivedBytes = Math.max(this.receivedBytes, bytes);
    return this.pump();
  }

  stop() {
    this.stopped = true;
  }
}
