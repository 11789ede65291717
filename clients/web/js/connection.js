/**
 * One session on the server: the websocket, its start, requests with answers, attachments, and coming back after it
 * broke: to the same session, where the server keeps it, or to another one. What the session is about is the owner's;
 * see the callbacks.
 */

import { VERSION, pack, subprotocols, unpack } from "./protocol.js";

const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 10_000;
const GOING_AWAY = 1001;
const TOO_BIG = 1009;
/** Idle, too many messages, too large a message, and a session that another connection took: nothing is kept of these. */
const NOT_KEPT = new Set([GOING_AWAY, 1008, TOO_BIG, 4001]);
const RESUME = "resume";
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
 * @property {() => void} [onResumed] the session that there was goes on; without it a broken connection ends the session
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
    /** @type {string | null} the session that can be gone on with when the websocket breaks */
    this.sessionId = null;
    /** @type {Map<string, {message: Record<string, any>, about: unknown, carriedOut: boolean}>} */
    this.requests = new Map();
    /** @type {{result: any, attachments: {header: any, payload: Uint8Array<ArrayBuffer>}[]} | null} */
    this.incomplete = null;
  }

  get ready() {
    return this.state === "ready";
  }

  /** Whether there is a session, and the websocket to it is not there at the moment. */
  get away() {
    return this.sessionId !== null && !this.ready;
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
    this.forget();
    this.release();
    this.enter("closed");
  }

  /** The session that there was is not gone on with. */
  forget() {
    this.sessionId = null;
    this.requests.clear();
  }

  /**
   * Sends a request, as soon as there is a websocket to the session. Returns its id, or null while there is no session.
   * @param {Record<string, unknown>} message
   * @param {unknown} [about] what the owner wants to be reminded of if it fails
   */
  request(message, about = null) {
    if (!this.ready && !this.away) return null;
    const id = `r${++this.lastRequest}`;
    this.requests.set(id, { message, about, carriedOut: false });
    if (this.ready) this.socket?.send(JSON.stringify({ ...message, request_id: id }));
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
    const socket = new WebSocket(this.surroundings.url, subprotocols(this.surroundings.token(), this.sessionId));
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    if (this.sessionId === null) this.requests.clear();
    this.incomplete = null;
    this.enter("connecting");
    let opened = false;
    socket.onopen = () => {
      opened = true;
      this.begin();
    };
    socket.onmessage = (event) => this.receive(event.data);
    socket.onclose = (event) => void this.closed(event, opened);
  }

  begin() {
    const first =
      this.sessionId === null
        ? { type: "start", version: VERSION, ...this.owner.start() }
        : { type: "resume", version: VERSION, session_id: this.sessionId, request_id: RESUME };
    this.socket?.send(JSON.stringify(first));
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
        this.sessionId = this.owner.onResumed && message.limits?.resume_s > 0 ? message.session_id : null;
        this.enter("ready");
        if (!message.resumed) this.owner.onReady(message);
        else {
          this.repeat(message.received);
          this.owner.onResumed?.();
        }
        break;
      case "result":
        this.incomplete = { result: message, attachments: [] };
        this.deliverIfComplete();
        break;
      case "error": {
        if (message.request_id === RESUME) {
          this.forget();
          this.enter("connecting");
          this.begin();
          break;
        }
        const request = this.requests.get(message.request_id);
        // After it came back the server says once more what it said last.
        if (!request && /^r\d+$/.test(message.request_id ?? "")) break;
        this.requests.delete(message.request_id);
        this.owner.onError(message, request?.message ?? null, request?.about ?? null);
        break;
      }
      case "ok":
        this.carriedOut(message.request_id);
        // Requests are kept until their result or error, which may follow their `ok`.
        if (this.requests.size > 100) this.requests.delete(/** @type {string} */ (this.requests.keys().next().value));
        break;
      default:
        this.owner.onMessage?.(message);
    }
  }

  /** @param {string} id of a request */
  carriedOut(id) {
    const request = this.requests.get(id);
    if (request) request.carriedOut = true;
  }

  /**
   * Sends what did not arrive, in its order.
   * @param {string[]} received ids of requests that did
   */
  repeat(received) {
    for (const [id, { message, carriedOut }] of [...this.requests]) {
      if (carriedOut || received.includes(id)) continue;
      // It is of a moment that has passed; the owner makes another one.
      if (message.type === "offer") this.requests.delete(id);
      else this.socket?.send(JSON.stringify({ ...message, request_id: id }));
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
    if (NOT_KEPT.has(event.code)) this.forget();
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
