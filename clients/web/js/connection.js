/**
 * One session on the server: the websocket, its start, requests with answers, attachments, and coming back after it
 * broke. What the session is about is the owner's; see the callbacks.
 */

import { VERSION, pack, subprotocols, unpack } from "./protocol.js";

const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 10_000;
const GOING_AWAY = 1001;
const TOO_BIG = 1009;
/** Why the server ended a session, by the websocket's code. @type {Record<number, string>} */
const ENDED = { 1008: "slowed", 1011: "fault", 1012: "restarting" };
/** So many handshakes in vain are more than a server that is full for a moment. */
const MANY_FAILURES = 5;

/**
 * closed: not wanted. asleep: the server ended an idle session; wake() brings it back. connecting, ready.
 * waiting: broke, a retry is due. refused: needs the user (a token), see `why`.
 * @typedef {"closed" | "asleep" | "connecting" | "ready" | "waiting" | "refused"} ConnectionState
 *
 * @typedef {object} Owner
 * @property {() => Record<string, unknown>} start fields of the `start` message
 * @property {(ready: any) => void} onReady the session was accepted; send frames
 * @property {(result: any, attachments: {header: any, payload: Uint8Array<ArrayBuffer>}[]) => void} onResult
 * @property {(error: any, request: Record<string, any> | null, about: any) => void} onError with the request that it
 *   answers and what that was about
 * @property {(state: ConnectionState, why: string) => void} onState
 * @property {(message: any) => void} [onMessage] any other message (`received`, `progress`, `done`)
 *
 * @typedef {object} Surroundings what the connection needs from the page; given by tests
 * @property {string} url
 * @property {() => string | null} token
 * @property {() => Promise<"ok" | "token" | "unreachable">} probe why a handshake may have failed
 */

export class Connection {
  /**
   * @param {Surroundings} surroundings
   * @param {Owner} owner
   */
  constructor(surroundings, owner) {
    this.surroundings = surroundings;
    this.owner = owner;
    /** @type {ConnectionState} */
    this.state = "closed";
    /** @type {WebSocket | null} */
    this.socket = null;
    this.failures = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.retryTimer = undefined;
    this.lastRequest = 0;
    /** @type {Map<string, {message: Record<string, any>, about: unknown}>} */
    this.requests = new Map();
    /** @type {{result: any, attachments: {header: any, payload: Uint8Array<ArrayBuffer>}[]} | null} */
    this.incomplete = null;
  }

  get ready() {
    return this.state === "ready";
  }

  /** Opens the session, or does nothing if it is open or on its way. */
  wake() {
    if (this.state === "ready" || this.state === "connecting" || this.state === "waiting") return;
    this.failures = 0;
    this.open();
  }

  /** Ends the session; nothing is called any more. */
  close() {
    clearTimeout(this.retryTimer);
    this.release();
    this.enter("closed");
  }

  /**
   * Sends a request. Returns its id, or null while there is no session.
   * @param {Record<string, unknown>} message
   * @param {unknown} [about] what the owner wants to be reminded of if it fails
   */
  request(message, about = null) {
    if (!this.ready || !this.socket) return null;
    const id = `r${++this.lastRequest}`;
    this.requests.set(id, { message, about });
    this.socket.send(JSON.stringify({ ...message, request_id: id }));
    return id;
  }

  /**
   * Sends a frame. Returns whether there is a session.
   * @param {Record<string, unknown>} header
   * @param {Uint8Array} payload
   */
  frame(header, payload) {
    return this.binary({ type: "frame", ...header }, payload);
  }

  /**
   * Sends a binary message. Returns whether there is a session.
   * @param {Record<string, unknown>} header has a `type`
   * @param {Uint8Array} payload
   */
  binary(header, payload) {
    if (!this.ready || !this.socket) return false;
    this.socket.send(pack(header, payload));
    return true;
  }

  open() {
    const socket = new WebSocket(this.surroundings.url, subprotocols(this.surroundings.token()));
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.requests.clear();
    this.incomplete = null;
    this.enter("connecting");
    let opened = false;
    socket.onopen = () => {
      opened = true;
      socket.send(JSON.stringify({ type: "start", version: VERSION, ...this.owner.start() }));
    };
    socket.onmessage = (event) => this.receive(event.data);
    socket.onclose = (event) => void this.closed(event, opened);
  }

  release() {
    if (!this.socket) return;
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
    this.socket = null;
  }

  /**
   * @param {ConnectionState} state
   * @param {string} [why]
   */
  enter(state, why = "") {
    this.state = state;
    this.owner.onState(state, why);
  }

  /** @param {string | ArrayBuffer} data */
  receive(data) {
    if (typeof data !== "string") {
      if (!this.incomplete) return;
      this.incomplete.attachments.push(unpack(data));
      this.deliverIfComplete();
      return;
    }
    const message = JSON.parse(data);
    switch (message.type) {
      case "ready":
        this.failures = 0;
        this.enter("ready");
        this.owner.onReady(message);
        break;
      case "result":
        this.incomplete = { result: message, attachments: [] };
        this.deliverIfComplete();
        break;
      case "error": {
        const request = this.requests.get(message.request_id);
        this.requests.delete(message.request_id);
        this.owner.onError(message, request?.message ?? null, request?.about ?? null);
        break;
      }
      case "ok":
        // Requests are kept until their result or error, which may follow their `ok`.
        if (this.requests.size > 100) this.requests.delete(/** @type {string} */ (this.requests.keys().next().value));
        break;
      default:
        this.owner.onMessage?.(message);
    }
  }

  deliverIfComplete() {
    const { result, attachments } = /** @type {NonNullable<typeof this.incomplete>} */ (this.incomplete);
    if (attachments.length < (result.attachments ?? 0)) return;
    this.incomplete = null;
    this.requests.delete(result.request_id);
    this.owner.onResult(result, attachments);
  }

  /**
   * @param {CloseEvent} event
   * @param {boolean} opened whether the handshake succeeded
   */
  async closed(event, opened) {
    const socket = this.socket;
    this.socket = null;
    if (event.code === GOING_AWAY && opened) return this.enter("asleep");
    if (event.code === TOO_BIG) return this.enter("refused", "too_large");
    let why = opened ? (ENDED[event.code] ?? "lost") : "unreachable";
    if (!opened) {
      // A browser does not tell why a handshake failed, an ordinary request does.
      const answer = await this.surroundings.probe();
      if (this.socket !== null || this.state === "closed" || socket === null) return;
      if (answer === "token") return this.enter("refused", "token");
      if (answer === "ok") why = this.failures < MANY_FAILURES ? "busy" : "no_session";
    }
    if (globalThis.navigator?.onLine === false) why = "offline";
    const pause = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.failures++);
    clearTimeout(this.retryTimer);
    this.retryTimer = setTimeout(() => this.open(), pause * (0.75 + Math.random() / 2));
    this.enter("waiting", why);
  }
}
