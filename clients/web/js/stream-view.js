/**
 * Looking at a stream instead of a camera of this device: the choice of one, and what is said of it and of its source.
 */

import { AddressForm } from "./address-form.js";
import { hostOf } from "./addresses.js";
import { fromTemplate, part, setText } from "./dom.js";
import { SHOWN_SIDE, fitted } from "./frames.js";
import * as messages from "./messages.js";
import { StreamList } from "./stream-list.js";
import { StreamSession } from "./stream-session.js";

/** The shape of most cameras, until there is a picture. */
const USUAL_SIZE = { width: 1280, height: 720 };
const SUBJECT = "source";

/** @typedef {import("./stream-session.js").SourceState} SourceState */
/** @typedef {import("./messages.js").ServerError} ServerError */

/**
 * @typedef {object} ViewHooks
 * @property {import("./stream-session.js").StreamHooks["mode"]} mode
 * @property {(session: StreamSession) => void} onChosen a stream is about to be opened
 * @property {(ownMode: "track" | "image" | null) => void} onShown it is looked at; the mode that it has for everyone
 * @property {() => void} onOver
 * @property {import("./stream-session.js").StreamHooks["onReady"]} onReady
 * @property {import("./stream-session.js").StreamHooks["onResult"]} onResult
 * @property {import("./stream-session.js").StreamHooks["onShape"]} onShape
 * @property {import("./stream-session.js").StreamHooks["onFailed"]} onFailed
 * @property {import("./stream-session.js").StreamHooks["onState"]} onState
 */

export class StreamView {
  /**
   * @param {HTMLElement} host
   * @param {import("./main.js").Page} page
   * @param {import("./workspace.js").Workspace} workspace
   * @param {ViewHooks} hooks
   */
  constructor(host, page, workspace, hooks) {
    this.host = host;
    this.page = page;
    this.workspace = workspace;
    this.hooks = hooks;
    /** @type {StreamSession | null} */
    this.session = null;
    this.title = "";
    /** @type {SourceState} */
    this.source = "connecting";
    const place = part(host, "network-place");
    place.append(fromTemplate("network-template"));
    this.form = new AddressForm(host, ({ url, name, host: camera }) => this.look({ url, name }, name ?? camera));
    this.list = new StreamList(place, page.server, ({ name, mode }) =>
      this.look({ url: null, name, mode: mode === "track" ? "track" : "image" }, name),
    );
    part(place, "address-cancel").addEventListener("click", () => {
      hooks.onOver();
      this.form.address.focus();
    });
    workspace.stage.element.append(fromTemplate("stream-title-template"));
  }

  /** The server said what it offers. */
  informed() {
    this.form.offer(this.page.server.info.sources?.includes("url") ?? false);
    void this.list.ask();
  }

  /**
   * @param {import("./stream-session.js").Wanted} wanted
   * @param {string} title
   */
  look(wanted, title) {
    const { hooks, page, workspace } = this;
    const session = new StreamSession(page.server, workspace.objects, wanted, {
      mode: hooks.mode,
      onReady: hooks.onReady,
      onResult: (result, picture) => this.result(result, picture),
      onShape: hooks.onShape,
      onFailed: hooks.onFailed,
      onRefused: (error) => this.refused(error),
      onSource: (state, message) => this.sourceChanged(state, message),
      onAnew: () => page.notices.show("server", messages.STREAM_ANEW, { passing: true }),
      onState: (state, why) => this.connectionChanged(state, why),
    });
    hooks.onChosen(session);
    this.session = session;
    this.title = title;
    this.source = "connecting";
    this.setWaiting(true);
    session.open();
  }

  /** Ends it, if a stream is looked at. */
  close() {
    this.session = null;
    this.setWaiting(false);
    this.page.notices.hide(SUBJECT);
    this.workspace.setWaiting("");
    part(this.host, "stream-title").hidden = true;
    this.label("");
  }

  /** @param {string} title of the picture, for screen readers */
  label(title) {
    const { stage, tab } = this.workspace;
    stage.element.setAttribute("aria-label", title + tab.label);
  }

  /** @param {boolean} waiting for a stream to open */
  setWaiting(waiting) {
    const url = this.session?.wanted.url ?? null;
    this.form.setWaiting(waiting && url !== null ? `Connecting to ${this.title} …` : "");
    this.list.setWaiting(waiting && url === null ? this.title : null);
    part(this.host, "address-cancel").hidden = !(waiting && url !== null);
  }

  /**
   * There is something to look at, even if it is only that there is no picture.
   * @param {{width: number, height: number}} size
   */
  show({ width, height }) {
    const { stage } = this.workspace;
    const size = fitted(width, height, SHOWN_SIDE);
    stage.setSize(size.width, size.height);
    if (this.workspace.active || !this.session) return;
    const { wanted } = this.session;
    stage.clearPicture();
    this.setWaiting(false);
    if (wanted.url !== null) this.form.accepted();
    const title = part(this.host, "stream-title");
    setText(title, this.title);
    title.hidden = false;
    this.label(`${this.title}. `);
    this.workspace.setActive(true);
    this.hooks.onShown(wanted.url === null ? wanted.mode : null);
    stage.element.focus({ preventScroll: true });
    // The list that it was chosen from may lie below the fold.
    stage.element.scrollIntoView({ block: "nearest" });
  }

  /**
   * @param {any} result
   * @param {ImageBitmap} picture
   */
  result(result, picture) {
    this.show(picture);
    this.hooks.onResult(result, picture);
  }

  /**
   * @param {SourceState} state
   * @param {string} message
   */
  sourceChanged(state, message) {
    const { notices } = this.page;
    if (state === "ended") {
      const words = messages.streamEnded(this.title, message);
      this.hooks.onOver();
      return notices.show("camera", words);
    }
    const before = this.source;
    this.source = state;
    this.page.showSource(state);
    this.workspace.setWaiting(messages.SOURCE_WAITING[state]);
    if (state === "live") return notices.hide(SUBJECT);
    this.show(this.workspace.active ? this.workspace.stage.picture : USUAL_SIZE);
    // How the tries go is for no one to read; that it is tried is said once.
    if (state === "lost" && before !== "lost") notices.show(SUBJECT, messages.sourceLost(message));
  }

  /** @param {ServerError} error */
  refused(error) {
    const { wanted } = /** @type {StreamSession} */ (this.session);
    this.hooks.onOver();
    this.page.notices.show("camera", messages.streamProblem(error, wanted));
    if (wanted.url !== null) this.form.refused();
    void this.list.ask();
  }

  /**
   * @param {import("./connection.js").ConnectionState} state
   * @param {string} why
   */
  connectionChanged(state, why) {
    this.hooks.onState(state, why);
    if (state !== "ready") this.source = "connecting";
  }
}
