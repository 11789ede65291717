/**
 * One video on the server: uploaded, processed, and what comes back. A job is not begun again by itself: half a file
 * on a server that went away is worth nothing.
 */

import { Connection } from "./connection.js";
import * as messages from "./messages.js";
import { Upload } from "./upload.js";


/**
 * @typedef {{name: string, url: string, bytes: number, media_type: string}} ResultFile
 * @typedef {{frames: number, total: number | null, time_s: number, fps: number, eta_s: number | null,
 *   waiting?: number}} Progress
 * @typedef {{frames: number, files?: ResultFile[], problems?: string[]}} Done
 *
 * @typedef {object} JobHooks
 * @property {(receivedBytes: number) => void} onUpload
 * @property {(progress: Progress) => void} onProgress
 * @property {(result: any) => void} onResult
 * @property {(words: string) => void} onProblem something that does not end the job
 * @property {(done: Done) => void} onDone
 * @property {(words: string) => void} onFailed nothing came of it
 * @property {(state: import("./connection.js").ConnectionState, why: string) => void} onState
 */

export class FileJob {
  /**
   * @param {import("./connection.js").Surroundings} server
   * @param {File} file
   * @param {Record<string, unknown>} start fields of `start`: prompts, sampling, video, masks
   * @param {JobHooks} hooks
   */
  constructor(server, file, start, hooks) {
    this.file = file;
    this.hooks = hooks;
    /** @type {"uploading" | "processing" | "ended"} */
    this.phase = "uploading";
    /** @type {Upload | null} */
    this.upload = null;
    /** @type {import("./messages.js").ServerError | null} */
    this.lastError = null;
    this.connection = new Connection(server, {
      start: () => ({ source: "file", name: file.name.slice(0, 255), size_bytes: file.size, ...start }),
      onReady: (ready) => this.ready(ready),
      onResult: (result) => hooks.onResult(result),
      onError: (error) => this.failed(error),
      onState: (state, why) => this.connectionChanged(state, why),
      onMessage: (message) => this.received(message),
    });
    this.connection.wake();
  }

  /** Ends early: what is done stays. While the file is on its way there is nothing to keep. */
  stop() {
    if (this.phase === "processing") this.connection.request({ type: "stop" });
    else this.abandon();
  }

  /** Ends without a word. */
  abandon() {
    this.phase = "ended";
    this.upload?.stop();
    this.connection.close();
  }

  /** @param {any} ready */
  ready(ready) {
    this.upload = new Upload(this.file, ready.window_bytes, ready.chunk_bytes, (header, payload) => {
      this.connection.binary(header, payload);
    });
    this.goOn(this.upload.pump());
  }

  /** @param {any} message */
  received(message) {
    if (this.phase === "ended") return;
    switch (message.type) {
      case "received": {
        const { upload } = this;
        if (!upload) return;
        this.goOn(upload.received(message.bytes));
        this.hooks.onUpload(upload.receivedBytes);
        if (upload.complete && this.phase === "uploading") this.phase = "processing";
        break;
      }
      case "progress":
        this.phase = "processing";
        this.hooks.onProgress(message);
        break;
      case "done": {
        const { lastError } = this;
        this.abandon();
        if (!lastError) return this.hooks.onDone(message);
        if (!message.files?.length) return this.hooks.onFailed(messages.serverProblem(lastError));
        this.hooks.onProblem(messages.serverProblem(lastError));
        this.hooks.onDone(message);
      }
    }
  }

  /** @param {Promise<void>} sending */
  goOn(sending) {
    sending.catch(() => this.fail(messages.FILE_UNREADABLE));
  }

  /** @param {import("./messages.js").ServerError} error */
  failed(error) {
    if (this.phase === "ended") return;
    if (!this.connection.ready) return this.fail(messages.jobProblem(error));
    this.lastError = error;
    // One of several clicks did not fit: the job goes on, and the user need not wait to hear of it.
    if (error.code === "bad_prompt") this.hooks.onProblem(messages.serverProblem(error));
  }

  /** @param {string} words */
  fail(words) {
    if (this.phase === "ended") return;
    this.abandon();
    this.hooks.onFailed(words);
  }

  /**
   * @param {import("./connection.js").ConnectionState} state
   * @param {string} why
   */
  connectionChanged(state, why) {
    this.hooks.onState(state, state === "waiting" ? "" : why);
    if (state === "asleep") this.fail(messages.JOB_LOST);
    else if (state === "refused") this.fail(why === "token" ? messages.TOKEN_NEEDED : messages.JOB_LOST);
    else if (state === "waiting") this.fail(this.lastError ? messages.jobProblem(this.lastError) : messages.jobLost(why));
  }
}
