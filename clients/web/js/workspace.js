/**
 * Stage, toolbar and list of objects: what all tabs have in common. A tab gives it pictures and results, and is told
 * what the user points at.
 */

import { fromTemplate, part, setText } from "./dom.js";
import { EXCLUDE, INCLUDE, describeNext, interpret } from "./gestures.js";
import { isShortcut, letterKeys } from "./help.js";
import * as messages from "./messages.js";
import { ObjectList } from "./object-list.js";
import { Objects } from "./objects.js";
import { cssColor } from "./palette.js";
import { Stage } from "./stage.js";

/** @typedef {import("./objects.js").Mark} Mark */
/** @typedef {import("./objects.js").SegObject} SegObject */

/**
 * @typedef {object} Tab
 * @property {string} label of the stage, for screen readers
 * @property {string} hint on the stage until the first click
 * @property {string} emptyWords in the list while there is no object
 * @property {boolean} showMarks whether clicks stay visible
 * @property {boolean} [moves] whether objects can get lost and come back
 * @property {boolean} [hides] whether objects can be taken out of sight
 * @property {() => string | null} refusal why pointing is impossible now, null: it is possible
 * @property {(object: SegObject, mark: Mark) => void} onMark the mark is the newest of the object's marks
 * @property {(object: SegObject, mark: Mark, told: boolean) => void} onUndo the mark was taken back, and the object
 *   with it if it was its only one; told: see the history's entries
 * @property {(id: number) => void} onRemove
 * @property {() => void} onClear
 * @property {((id: number) => void) | null} onSave
 * @property {(object: SegObject) => string} [describe] what the list says about an object
 */

const INPUTS_WITHOUT_TEXT = new Set(["radio", "checkbox", "range"]);
/** How long a covered picture shines through for somebody who wants another object. */
const NEW_OBJECT_PEEK_MS = 5000;
const UNDO_TITLE = "Undo the last click (Ctrl or Cmd + Z)";
let workspaces = 0;

export class Workspace {
  /**
   * @param {HTMLElement} host
   * @param {Tab} tab
   * @param {import("./notices.js").Notices} notices
   */
  constructor(host, tab, notices) {
    this.host = host;
    this.tab = tab;
    this.notices = notices;
    host.append(fromTemplate("workspace-template"));
    this.root = /** @type {HTMLElement} */ (host.lastElementChild);
    /** Whether there is a picture. */
    this.active = false;
    /** Whether something was deleted since the last click. */
    this.deleted = false;
    this.toolbar = part(host, "toolbar");
    this.next = part(host, "next");
    this.side = part(host, "side");
    /** @type {HTMLInputElement[]} */
    this.radios = [...this.toolbar.querySelectorAll("input[type=radio]")];
    const group = `click-${++workspaces}`;
    for (const radio of this.radios) {
      radio.name = group;
      radio.addEventListener("change", () => this.refresh());
    }
    this.undoButton = part(host, "undo");
    this.undoButton.addEventListener("click", () => this.undo());
    this.objects = new Objects(() => this.refresh());
    this.stage = new Stage(host, {
      onPoint: (spot, exclude) => this.pointed(spot, exclude),
      onBox: (box) => this.boxed(box),
    });
    this.stage.showMarks = tab.showMarks;
    this.stage.element.setAttribute("aria-label", tab.label);
    this.list = new ObjectList(
      host,
      {
        onSelect: (id) => this.objects.select(this.objects.selected === id ? null : id),
        onDelete: (id) => this.remove(id),
        onClear: () => this.clear(),
        onNew: () => {
          this.startNew();
          this.stage.element.focus();
        },
        onRename: (id, name) => this.objects.rename(id, name),
        onHide: tab.hides ? (id, hidden) => this.objects.setHidden(id, hidden) : null,
        onSave: tab.onSave,
      },
      tab.emptyWords,
      tab.describe,
    );
    this.everPointed = false;
    this.waitingWords = "";
    document.addEventListener("keydown", (event) => this.key(event));
    this.refresh();
  }

  get label() {
    return this.radios.find((radio) => radio.checked)?.value === "0" ? EXCLUDE : INCLUDE;
  }

  /**
   * With a picture the stage and its tools are there, without one the welcome is.
   * @param {boolean} active
   */
  setActive(active) {
    this.active = active;
    this.deleted = false;
    this.root.dataset.active = String(active);
    part(this.host, "welcome").hidden = active;
    this.toolbar.hidden = !active;
    this.stage.show(active);
    this.refresh();
  }

  /**
   * What the stage is waiting for; empty: nothing.
   * @param {string} words
   */
  setWaiting(words) {
    this.waitingWords = words;
    this.stage.element.setAttribute("aria-busy", String(words !== ""));
    this.refresh();
  }

  refresh() {
    if (!this.list) return;
    const { selected } = this.objects;
    const all = this.objects.all();
    this.list.show(all, selected);
    const chosen = selected === null ? null : this.objects.byId.get(selected);
    const lost = this.tab.moves === true && chosen?.state === "lost";
    setText(this.next, describeNext(chosen?.name ?? null, this.label, all.length > 0, lost));
    this.undoButton.disabled = this.objects.history.size === 0;
    this.undoButton.title = this.undoButton.disabled ? this.whyNoUndo : UNDO_TITLE;
    this.stage.setHint(this.waitingWords || (this.everPointed || all.length ? "" : this.tab.hint));
    this.stage.objects = all;
    this.stage.selected = selected;
    this.stage.draw();
  }

  /**
   * @param {import("./stage.js").Spot} spot
   * @param {boolean} exclude by key, button or long press
   */
  pointed(spot, exclude) {
    const label = exclude ? EXCLUDE : this.label;
    this.act("point", label, spot, { kind: "point", ...spot, label });
  }

  /** @param {{x1: number, y1: number, x2: number, y2: number}} box */
  boxed(box) {
    this.act("box", INCLUDE, { x: (box.x1 + box.x2) / 2, y: (box.y1 + box.y2) / 2 }, { kind: "box", ...box });
  }

  /**
   * @param {"point" | "box"} gesture
   * @param {number} label
   * @param {import("./stage.js").Spot} spot
   * @param {Mark} mark
   */
  act(gesture, label, spot, mark) {
    const action = interpret(gesture, label, {
      selected: this.objects.selected,
      hit: this.objects.at(spot.x, spot.y),
      newest: this.objects.newest(),
    });
    if (action.kind === "none") return this.notices.show("click", action.why, { passing: true });
    if (action.kind === "select") return this.objects.select(action.objectId);
    const refusal = this.tab.refusal();
    if (refusal) return this.notices.show("click", refusal, { passing: true });
    this.notices.hide("click");
    this.everPointed = true;
    this.deleted = false;
    const object = action.kind === "new" ? this.objects.add() : this.objects.byId.get(action.objectId);
    if (!object) return;
    this.objects.mark(object, mark);
    if (gesture === "point") this.stage.ping(spot, label === INCLUDE ? cssColor(object.id) : "#ffffff");
    this.tab.onMark(object, mark);
    this.refresh();
  }

  /** Takes the last mark back. */
  undo() {
    const last = this.objects.undo();
    if (last) this.tab.onUndo(last.object, last.mark, last.told);
    const words = last ? this.deleted && messages.undoneInstead(last.object.name) : this.whyNoUndo;
    if (words) this.notices.show("click", words, { passing: true });
    this.deleted = false;
    this.refresh();
  }

  get whyNoUndo() {
    return this.deleted ? messages.DELETION_STAYS : messages.NOTHING_TO_UNDO;
  }

  /** @param {number} id */
  remove(id) {
    this.deleted = true;
    this.objects.remove(id);
    this.tab.onRemove(id);
  }

  clear() {
    this.deleted = true;
    this.objects.clear();
    this.tab.onClear();
    this.stage.element.focus();
  }

  /** The next click is a new object. */
  startNew() {
    for (const radio of this.radios) radio.checked = radio.value === "1";
    this.objects.select(null);
    this.stage.peek(NEW_OBJECT_PEEK_MS);
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const { target } = event;
    if (this.host.hidden || event.defaultPrevented || document.querySelector("dialog[open]")) return;
    if (target instanceof HTMLInputElement && !INPUTS_WITHOUT_TEXT.has(target.type)) return;
    if (isUndo(event)) {
      event.preventDefault();
      if (this.active && !this.toolbar.inert) this.undo();
      return;
    }
    if (target instanceof HTMLSelectElement || (target instanceof HTMLInputElement && target.type === "range")) return;
    if (event.key === "Escape") {
      if (!this.stage.cancel()) this.startNew();
    } else if (event.key === "Delete" || event.key === "Backspace") {
      const { selected } = this.objects;
      if (selected !== null) this.remove(selected);
    } else if (event.key.toLowerCase() === "h" && this.tab.hides && isShortcut(event) && letterKeys()) {
      const chosen = this.objects.byId.get(this.objects.selected ?? NaN);
      if (chosen) this.objects.setHidden(chosen.id, !chosen.hidden);
    } else return;
    event.preventDefault();
  }
}

/** @param {KeyboardEvent} event */
function isUndo({ key, ctrlKey, metaKey, shiftKey, altKey }) {
  return key.toLowerCase() === "z" && (ctrlKey || metaKey) && !shiftKey && !altKey;
}
