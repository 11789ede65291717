/**
 * The tab Image: one picture, as many clicks as it takes, and files to take home.
 */

import { Connection } from "./connection.js";
import { fromTemplate, part, save } from "./dom.js";
import * as downloads from "./downloads.js";
import { EffectChooser } from "./effect-chooser.js";
import { fitted } from "./frames.js";
import { onLetters } from "./help.js";
import * as messages from "./messages.js";
import { DEFAULT_MOST_OBJECTS, promptOf } from "./objects.js";
import { Workspace } from "./workspace.js";

/** Long side to which the stage draws the picture; downloads have its full size. */
const SHOWN_SIDE = 2048;
const READING = "Reading the picture …";

export class ImageTab {
  name = "image";

  /**
   * @param {HTMLElement} host
   * @param {import("./main.js").Page} page
   */
  constructor(host, page) {
    this.host = host;
    this.page = page;
    /** @type {{name: string, bytes: Uint8Array} | null} */
    this.file = null;
    /** @type {HTMLImageElement | null} what the stage shows */
    this.picture = null;
    /** @type {{width: number, height: number} | null} in the server's pixels; null: no result yet */
    this.size = null;
    this.mostObjects = DEFAULT_MOST_OBJECTS;
    this.turn = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.retryTimer = undefined;
    this.workspace = new Workspace(
      host,
      {
        label: "Picture. Click an object to select it; arrow keys move a pointer, Enter clicks.",
        hint: "Click the object you want",
        emptyWords: "Nothing selected yet.",
        showMarks: true,
        hides: true,
        refusal: () => this.refusal(),
        onMark: (object, mark) => this.marked(object, mark),
        onUndo: (object) => this.undone(object),
        onRemove: (id) => this.removed(id),
        onClear: () => this.cleared(),
        onSave: (id) => void this.saveMask(id),
      },
      page.notices,
    );
    this.connection = new Connection(page.server, {
      // A picture that this browser cannot show (TIFF, say) is shown as the server drew it.
      start: () => ({ source: "image", keep: true, masks: "rle", overlay: this.picture === null }),
      onReady: (ready) => this.ready(ready),
      onResult: (result, attachments) => void this.result(result, attachments),
      onError: (error, request, mark) => this.failed(error, request, mark),
      onState: (state, why) => this.connectionChanged(state, why),
    });
    this.furnish();
  }

  furnish() {
    const { host, workspace } = this;
    part(host, "welcome").append(fromTemplate("image-welcome-template"));
    part(host, "actions").append(fromTemplate("image-actions-template"));
    workspace.side.append(fromTemplate("image-effects-template"), fromTemplate("image-downloads-template"));
    const chooser = new EffectChooser(
      part(host, "effects-place"),
      this.name,
      (effect) => workspace.stage.setEffect(effect),
      (words) => this.page.notices.show("effect", words, { passing: true }),
    );
    onLetters(host, { e: () => this.picture && chooser.next() });
    this.downloads = /** @type {HTMLElement} */ (host.querySelector(".downloads"));
    const file = part(host, "file");
    file.addEventListener("change", () => {
      if (file.files[0]) void this.open(file.files[0]);
      file.value = "";
    });
    part(host, "other").addEventListener("click", () => this.forget());
    part(host, "cutout").addEventListener("click", () => void this.saveCutOut());
    part(host, "overlay-file").addEventListener("click", () => void this.saveOverlay());
    part(host, "json").addEventListener("click", () => this.saveJson());
  }

  /** The server said what it offers. */
  informed() {
    const { images = [] } = this.page.server.info.samples ?? {};
    const shelf = part(this.host, "samples");
    shelf.hidden = images.length === 0;
    shelf.querySelector("ul").replaceChildren(
      ...images.map((/** @type {{name: string, url: string, title: string, credit: string}} */ sample) => {
        const button = document.createElement("button");
        button.type = "button";
        button.title = `${sample.title} – ${sample.credit}`;
        const thumbnail = document.createElement("img");
        thumbnail.src = sample.url;
        thumbnail.alt = sample.title;
        button.append(thumbnail);
        button.addEventListener("click", () => void this.openSample(sample.url, sample.name));
        const item = document.createElement("li");
        item.append(button);
        return item;
      }),
    );
  }

  enter() {
    this.page.showConnection(this.connection.state, "");
  }

  /** The picture and its objects stay; the session is opened again with the next click. */
  leave() {
    this.connection.close();
    this.page.showConnection("closed", "");
  }

  tokenChanged() {
    if (this.file) this.connection.wake();
  }

  /**
   * @param {string} url
   * @param {string} name
   */
  async openSample(url, name) {
    const turn = ++this.turn;
    try {
      const answer = await fetch(url);
      if (!answer.ok) throw new Error(answer.statusText);
      const blob = await answer.blob();
      if (turn === this.turn) await this.open(new File([blob], name));
    } catch {
      this.page.notices.show("picture", messages.SAMPLE_FAILED);
    }
  }

  /** @param {File} file */
  async open(file) {
    const turn = ++this.turn;
    const { notices, server } = this.page;
    notices.hide("picture");
    if (file.size === 0) return notices.show("picture", messages.EMPTY_FILE);
    const most = server.info.limits?.max_image_bytes;
    if (most && file.size > most) return notices.show("picture", messages.fileTooLarge(file.size, most));
    this.forget();
    const bytes = new Uint8Array(await file.arrayBuffer());
    const picture = await load(file);
    if (turn !== this.turn) return;
    this.file = { name: file.name || "picture", bytes };
    this.workspace.setWaiting(READING);
    if (picture) this.show(picture);
    else notices.show("reading", READING, { kind: "good" });
    this.connection.wake();
  }

  /** @param {HTMLImageElement} picture */
  show(picture) {
    this.picture = picture;
    const { width, height } = fitted(picture.naturalWidth, picture.naturalHeight, SHOWN_SIDE);
    this.workspace.stage.setSize(width, height);
    this.workspace.stage.drawPicture(picture);
    this.workspace.setActive(true);
    this.workspace.stage.element.focus({ preventScroll: true });
  }

  /** Back to the welcome. */
  forget() {
    clearTimeout(this.retryTimer);
    this.page.notices.hide("reading");
    this.connection.close();
    if (this.picture) URL.revokeObjectURL(this.picture.src);
    this.file = this.picture = this.size = null;
    this.workspace.objects.restart();
    this.workspace.setWaiting("");
    this.workspace.setActive(false);
    this.refresh();
  }

  refusal() {
    if (!this.size) return messages.PICTURE_NOT_READY;
    if (this.connection.state === "waiting") return messages.NOT_CONNECTED_YET;
    if (this.connection.state === "refused") return messages.TOKEN_NEEDED;
    if (this.workspace.objects.size >= this.mostObjects) return messages.TOO_MANY_OBJECTS;
    return null;
  }

  /**
   * @param {import("./objects.js").SegObject} object
   * @param {import("./objects.js").Mark} mark
   */
  marked(object, mark) {
    if (!this.connection.ready) return this.connection.wake();
    this.prompt(object.id, [mark], false);
  }

  /**
   * @param {number} id
   * @param {import("./objects.js").Mark[]} marks
   * @param {boolean} replace
   */
  prompt(id, marks, replace) {
    if (!this.size) return;
    const { width, height } = this.size;
    this.connection.request({ type: "prompt", ...promptOf(id, marks, width, height), replace }, marks.at(-1));
  }

  /** @param {import("./objects.js").SegObject} object */
  undone({ id, marks }) {
    if (!marks.length) this.removed(id);
    else if (this.connection.ready) this.prompt(id, marks, true);
    else this.connection.wake();
  }

  /** @param {number} id */
  removed(id) {
    this.connection.request({ type: "remove", object_id: id });
    this.refresh();
  }

  cleared() {
    this.connection.request({ type: "reset" });
    this.refresh();
  }

  /** @param {any} ready */
  ready(ready) {
    this.mostObjects = ready.limits.max_objects;
    // After a broken connection everything is said again; the one result answers all of it.
    for (const { id, marks } of this.workspace.objects.all()) this.prompt(id, marks, false);
    this.sendPicture();
  }

  sendPicture() {
    if (this.file) this.connection.frame({ index: 0 }, this.file.bytes);
  }

  /**
   * @param {any} result
   * @param {{header: any, payload: Uint8Array<ArrayBuffer>}[]} attachments
   */
  async result(result, attachments) {
    const turn = this.turn;
    const overlay = attachments.find(({ header }) => header.type === "overlay");
    if (!this.picture && overlay) {
      const picture = await load(new Blob([overlay.payload], { type: "image/jpeg" }));
      if (!picture || turn !== this.turn) return;
      this.show(picture);
    }
    this.page.notices.hide("server");
    this.page.notices.hide("reading");
    this.size = { width: result.width, height: result.height };
    this.workspace.setWaiting("");
    this.workspace.objects.apply(result);
    this.workspace.stage.element.dataset.results = String(Number(this.workspace.stage.element.dataset.results ?? 0) + 1);
    this.refresh();
  }

  /**
   * @param {import("./messages.js").ServerError & {index?: number}} error
   * @param {Record<string, any> | null} request
   * @param {import("./objects.js").Mark | null} mark the newest that the request told
   */
  failed(error, request, mark) {
    const { notices } = this.page;
    if (error.code === "not_found" && request?.type === "remove") return;
    const words = messages.serverProblem(error);
    if (error.code === "overloaded") {
      notices.show("server", words, { passing: true });
      clearTimeout(this.retryTimer);
      this.retryTimer = setTimeout(() => this.sayAgain(), 1000 * (error.retry_after_s ?? 1));
      return;
    }
    if (request?.type === "prompt") {
      notices.show("server", words, { passing: true });
      const { objects } = this.workspace;
      if (mark && objects.refuse(request.object_id, mark) && !objects.byId.has(request.object_id)) {
        this.removed(request.object_id);
      }
      return;
    }
    if (!this.size) this.forget();
    notices.show("picture", words);
  }

  /**
   * @param {import("./connection.js").ConnectionState} state
   * @param {string} why
   */
  connectionChanged(state, why) {
    if (why === "too_large") {
      this.forget();
      this.page.notices.show("picture", messages.FILE_TOO_LARGE);
      return;
    }
    this.page.showConnection(state, why);
  }

  /** Tells a server that was busy everything again. */
  sayAgain() {
    if (!this.connection.ready) return this.connection.wake();
    for (const { id, marks } of this.workspace.objects.all()) this.prompt(id, marks, true);
    if (!this.size) this.sendPicture();
  }

  refresh() {
    /** @type {HTMLElement} */ (this.downloads).hidden = this.taken().length === 0;
  }

  taken() {
    return downloads.segmented(this.workspace.objects.all());
  }

  /** The file's name without its ending. */
  get stem() {
    return (this.file?.name ?? "picture").replace(/\.[^.]*$/, "") || "picture";
  }

  /** @param {number} id */
  async saveMask(id) {
    const object = this.taken().find((other) => other.id === id);
    if (object) save(await downloads.maskPng(object), `${this.stem}-mask-${id}.png`);
  }

  async saveCutOut() {
    if (!this.picture || !this.size) return;
    const { selected } = this.workspace.objects;
    const chosen = this.taken().filter(({ id }) => selected === null || id === selected);
    save(
      await downloads.cutOutPng(this.picture, this.size.width, this.size.height, chosen.length ? chosen : this.taken()),
      `${this.stem}-cutout.png`,
    );
  }

  async saveOverlay() {
    if (!this.picture || !this.size) return;
    const { width, height } = this.size;
    save(await downloads.overlayPng(this.picture, width, height, this.taken()), `${this.stem}-overlay.png`);
  }

  saveJson() {
    if (!this.size) return;
    save(downloads.masksJson(this.size.width, this.size.height, this.taken()), `${this.stem}-masks.json`);
  }
}

/**
 * The picture, upright, or null if this browser cannot show it.
 * @param {Blob} blob
 * @returns {Promise<HTMLImageElement | null>}
 */
async function load(blob) {
  const picture = new Image();
  picture.src = URL.createObjectURL(blob);
  try {
    await picture.decode();
    return picture;
  } catch {
    URL.revokeObjectURL(picture.src);
    return null;
  }
}
