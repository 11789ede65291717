/**
 * The streams that the server has, to be looked at together with others. Asked for as long as the list is to be seen.
 */

import { fromTemplate, part, setText } from "./dom.js";

const ASK_EVERY_MS = 3000;

/**
 * @typedef {object} Listed
 * @property {string} name
 * @property {"connecting" | "live" | "lost" | "closed"} state
 * @property {string} mode
 * @property {number} viewers
 */

export class StreamList {
  /**
   * @param {HTMLElement} host
   * @param {import("./server.js").Server} server
   * @param {(stream: Listed) => void} onChosen
   */
  constructor(host, server, onChosen) {
    this.place = part(host, "streams");
    this.list = part(host, "stream-list");
    this.welcome = /** @type {HTMLElement} */ (host.closest(".welcome"));
    this.server = server;
    this.onChosen = onChosen;
    /** @type {Map<string, {row: HTMLElement, stream: Listed}>} */
    this.rows = new Map();
    /** @type {string | null} */
    this.waitingFor = null;
    this.asking = false;
    setInterval(() => void this.ask(), ASK_EVERY_MS);
    document.addEventListener("visibilitychange", () => void this.ask());
  }

  /** Asks the server, where somebody sees the answer. */
  async ask() {
    if (this.asking || document.hidden || !this.welcome.offsetParent) return;
    if (!this.server.info.sources?.includes("stream")) return;
    this.asking = true;
    const streams = await this.server.streams();
    this.asking = false;
    if (streams) this.show(streams);
  }

  /** @param {Listed[]} streams */
  show(streams) {
    const names = new Set(streams.map(({ name }) => name));
    for (const [name, { row }] of this.rows) {
      if (names.has(name)) continue;
      row.remove();
      this.rows.delete(name);
    }
    for (const stream of streams) this.showRow(stream);
    this.place.hidden = streams.length === 0;
  }

  /** @param {Listed} stream */
  showRow(stream) {
    let entry = this.rows.get(stream.name);
    if (!entry) {
      const row = /** @type {HTMLElement} */ (fromTemplate("stream-template").firstElementChild);
      entry = { row, stream };
      this.rows.set(stream.name, entry);
      setText(part(row, "stream-name"), stream.name);
      part(row, "stream").addEventListener("click", () => {
        const listed = this.rows.get(stream.name);
        if (listed && this.waitingFor === null) this.onChosen(listed.stream);
      });
      this.list.append(row);
    }
    entry.stream = stream;
    entry.row.dataset.state = stream.state;
    const waiting = stream.name === this.waitingFor;
    part(entry.row, "stream").setAttribute("aria-busy", String(waiting));
    setText(part(entry.row, "stream-state"), waiting ? "opening …" : describe(stream));
  }

  /** @param {string | null} name of the stream that is being opened */
  setWaiting(name) {
    this.waitingFor = name;
    for (const { stream } of this.rows.values()) this.showRow(stream);
  }
}

/** @param {Pick<Listed, "state" | "viewers">} stream */
export function describe({ state, viewers }) {
  if (state === "closed") return "opens when somebody looks";
  const words = { connecting: "connecting …", live: "live", lost: "no picture now" }[state];
  return viewers ? `${words} · ${viewers} looking` : words;
}
