/**
 * The page: tabs, the token, what the server says about itself, and files dropped anywhere.
 */

import { looksLikeVideo } from "./containers.js";
import { setText } from "./dom.js";
import { Help } from "./help.js";
import { ImageTab } from "./image.js";
import { Live } from "./live.js";
import * as messages from "./messages.js";
import { Notices } from "./notices.js";
import { Server } from "./server.js";
import { VideoTab } from "./video.js";

const PROBE_AGAIN_MS = 3000;

/** @type {Record<import("./connection.js").ConnectionState, string>} */
const CONNECTION_WORDS = {
  closed: "",
  asleep: "Resting",
  connecting: "Connecting …",
  ready: "Connected",
  waiting: "Reconnecting …",
  refused: "Not connected",
};

/**
 * The same of a stream's source, told while there is a connection; and the state of a connection that looks like it.
 * @type {Record<import("./stream-session.js").SourceState, {words: string, like: import("./connection.js").ConnectionState}>}
 */
const SOURCE_WORDS = {
  connecting: { words: "Waiting for pictures …", like: "connecting" },
  live: { words: "Live", like: "ready" },
  lost: { words: "Stream lost, waiting for it …", like: "waiting" },
  ended: { words: "Stream ended", like: "refused" },
};

/**
 * @typedef {object} TabPanel
 * @property {string} name
 * @property {HTMLElement} host
 * @property {() => void} enter
 * @property {() => void} leave
 * @property {() => void} informed the server said what it offers
 * @property {() => void} tokenChanged
 */

export class Page {
  constructor() {
    this.server = new Server();
    this.notices = new Notices(byId("notices"));
    this.connection = byId("connection");
    this.live = new Live(byId("panel-live"), this);
    this.image = new ImageTab(byId("panel-image"), this);
    this.video = new VideoTab(byId("panel-video"), this);
    /** @type {TabPanel[]} */
    this.tabs = [this.live, this.image, this.video];
    /** @type {TabPanel} */
    this.current = this.live;
    this.listenToTabs();
    this.listenToFiles();
    new Help(/** @type {HTMLDialogElement} */ (byId("help")), byId("help-open"));
    byId("token").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.submitToken();
    });
    const wanted = new URLSearchParams(location.hash.slice(1)).get("tab");
    this.open(this.tabs.find(({ name }) => name === wanted) ?? this.live);
    void this.ask();
  }

  /** Asks the server what it offers, until it answers. */
  async ask() {
    const answer = await this.server.probe();
    if (answer === "token") return this.askForToken(this.server.token() ? messages.TOKEN_WRONG : messages.TOKEN_NEEDED);
    if (answer === "unreachable") {
      this.notices.show("connection", messages.UNREACHABLE);
      setTimeout(() => void this.ask(), PROBE_AGAIN_MS);
      return;
    }
    this.notices.hide("connection");
    byId("token").hidden = true;
    this.showModel();
    for (const tab of this.tabs) tab.informed();
  }

  /** @param {string} words */
  askForToken(words) {
    byId("token").hidden = false;
    byId("token-words").textContent = words;
    byId("token-field").focus();
  }

  async submitToken() {
    const field = /** @type {HTMLInputElement} */ (byId("token-field"));
    this.server.setToken(field.value.trim());
    field.value = "";
    await this.ask();
    if (!byId("token").hidden) return;
    this.current.tokenChanged();
  }

  showModel() {
    const { model, version } = this.server.info;
    if (!model) return;
    const name = document.createElement("strong");
    name.textContent = model.name;
    const words = [` on ${model.device}: ${model.reason}.`.replace("..", ".")];
    words.push(/research/i.test(model.licence) ? " For research use only." : ` Licence: ${model.licence}.`);
    const about = document.createElement("p");
    about.append("Model ", name, words.join(""));
    const release = document.createElement("p");
    release.textContent = `streamseg ${version}`;
    byId("model").replaceChildren(about, release);
  }

  /**
   * @param {import("./connection.js").ConnectionState} state
   * @param {string} why
   * @param {boolean} [following] whether there are objects that go on in the next session
   */
  showConnection(state, why, following = false) {
    this.connection.dataset.state = state;
    setText(/** @type {Element} */ (this.connection.querySelector(".words")), CONNECTION_WORDS[state]);
    if (state === "ready" || state === "closed") this.notices.hide("connection");
    if (why === "token") this.askForToken(this.server.token() ? messages.TOKEN_WRONG : messages.TOKEN_NEEDED);
    const words = messages.connectionProblem(why, following);
    if (words) this.notices.show("connection", words);
  }

  /** @param {import("./stream-session.js").SourceState} state */
  showSource(state) {
    const { words, like } = SOURCE_WORDS[state];
    this.connection.dataset.state = like;
    setText(/** @type {Element} */ (this.connection.querySelector(".words")), words);
  }

  /** @param {TabPanel} tab */
  open(tab) {
    if (this.current !== tab) this.current.leave();
    this.current = tab;
    for (const { name, host } of this.tabs) {
      const selected = name === tab.name;
      const button = byId(`tab-${name}`);
      button.setAttribute("aria-selected", String(selected));
      button.tabIndex = selected ? 0 : -1;
      host.hidden = !selected;
    }
    history.replaceState(null, "", tab === this.tabs[0] ? location.pathname + location.search : `#tab=${tab.name}`);
    tab.enter();
  }

  listenToTabs() {
    this.tabs.forEach((tab, place) => {
      const button = byId(`tab-${tab.name}`);
      button.addEventListener("click", () => this.open(tab));
      button.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        const next = this.tabs[(place + step + this.tabs.length) % this.tabs.length];
        this.open(next);
        byId(`tab-${next.name}`).focus();
      });
    });
  }

  /** A picture dropped or pasted anywhere goes to the tab Image, a video to the tab Video. */
  listenToFiles() {
    addEventListener("dragover", (event) => {
      event.preventDefault();
      document.body.classList.add("dropping");
    });
    addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) document.body.classList.remove("dropping");
    });
    addEventListener("drop", (event) => {
      event.preventDefault();
      document.body.classList.remove("dropping");
      this.take(event.dataTransfer?.files[0]);
    });
    addEventListener("paste", (event) => this.take(event.clipboardData?.files[0]));
  }

  /** @param {File | undefined} file */
  take(file) {
    if (!file) return;
    // GIF and WebP may be either; the tab that is open decides.
    const moving = looksLikeVideo(file) || (this.current === this.video && !/^image\/(jpeg|png|bmp|tiff)$/.test(file.type));
    const tab = moving ? this.video : this.image;
    this.open(tab);
    void tab.open(file);
  }
}

/**
 * @param {string} id
 * @returns {HTMLElement}
 */
function byId(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

new Page();
