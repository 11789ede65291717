/**
 * The list of objects beside the stage.
 */

import { fromTemplate, part, setText } from "./dom.js";
import { cssColor } from "./palette.js";

/** @typedef {import("./objects.js").SegObject} SegObject */

export class ObjectList {
  /**
   * @param {HTMLElement} root
   * @param {object} hooks
   * @param {(id: number) => void} hooks.onSelect
   * @param {(id: number) => void} hooks.onDelete
   * @param {() => void} hooks.onClear
   * @param {() => void} hooks.onNew
   * @param {((id: number) => void) | null} hooks.onSave null: no mask to save
   * @param {string} emptyWords
   * @param {(object: SegObject) => string} [words] what the list says about an object
   */
  constructor(root, hooks, emptyWords, words = describe) {
    this.words = words;
    this.hooks = hooks;
    this.list = part(root, "list");
    this.empty = part(root, "empty");
    this.clear = part(root, "clear");
    this.fresh = part(root, "new");
    setText(this.empty, emptyWords);
    this.clear.addEventListener("click", () => hooks.onClear());
    this.fresh.addEventListener("click", () => hooks.onNew());
    /** @type {Map<number, HTMLElement>} */
    this.rows = new Map();
  }

  /**
   * @param {SegObject[]} objects
   * @param {number | null} selected
   */
  show(objects, selected) {
    const ids = new Set(objects.map(({ id }) => id));
    for (const [id, row] of this.rows) {
      if (ids.has(id)) continue;
      this.keepFocus(row);
      row.remove();
      this.rows.delete(id);
    }
    for (const object of objects) this.showRow(object, object.id === selected);
    this.empty.hidden = objects.length > 0;
    this.clear.hidden = objects.length < 2;
    this.fresh.hidden = selected === null;
  }

  /**
   * @param {SegObject} object
   * @param {boolean} selected
   */
  showRow(object, selected) {
    let row = this.rows.get(object.id);
    if (!row) {
      row = this.makeRow(object);
      this.rows.set(object.id, row);
      this.list.append(row);
    }
    row.dataset.state = object.state;
    row.classList.toggle("selected", selected);
    row.querySelector(".object-select")?.setAttribute("aria-pressed", String(selected));
    setText(/** @type {Element} */ (row.querySelector(".object-state")), this.words(object));
    const saver = /** @type {HTMLButtonElement} */ (row.querySelector(".object-save"));
    saver.hidden = this.hooks.onSave === null || object.state !== "tracked";
  }

  /** @param {SegObject} object */
  makeRow({ id, name }) {
    const row = /** @type {HTMLElement} */ (fromTemplate("object-template").firstElementChild);
    row.dataset.objectId = String(id);
    row.style.setProperty("--color", cssColor(id));
    setText(/** @type {Element} */ (row.querySelector(".object-name")), name);
    row.querySelector(".object-select")?.addEventListener("click", () => this.hooks.onSelect(id));
    const remove = /** @type {HTMLElement} */ (row.querySelector(".object-delete"));
    remove.setAttribute("aria-label", `Delete ${name}`);
    remove.title = `Delete ${name}`;
    remove.addEventListener("click", () => this.hooks.onDelete(id));
    const saver = /** @type {HTMLElement} */ (row.querySelector(".object-save"));
    saver.setAttribute("aria-label", `Save the mask of ${name} as PNG`);
    saver.title = `Save the mask of ${name} as PNG`;
    saver.addEventListener("click", () => this.hooks.onSave?.(id));
    return row;
  }

  /**
   * The focus must not fall back to the top of the page when its row goes.
   * @param {HTMLElement} row
   */
  keepFocus(row) {
    if (!row.contains(document.activeElement)) return;
    const neighbour = row.nextElementSibling ?? row.previousElementSibling;
    /** @type {HTMLElement | null | undefined} */ (neighbour?.querySelector(".object-select"))?.focus();
  }
}

/** @param {SegObject} object */
export function describe({ state, areaShare }) {
  switch (state) {
    case "waiting":
      return "looking …";
    case "tracked":
      return percent(areaShare);
    case "lost":
      return "lost";
    case "low_score":
      return "unsure";
  }
}

/** @param {number} share */
function percent(share) {
  if (share < 0.001) return "< 0.1 %";
  return `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;
}
