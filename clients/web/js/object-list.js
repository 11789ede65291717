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
   * @param {(id: number, name: string) => void} hooks.onRename
   * @param {((id: number, hidden: boolean) => void) | null} hooks.onHide null: what is seen is not for the list to say
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
    row.classList.toggle("out-of-sight", object.hidden);
    const select = piece(row, "object-select");
    select.setAttribute("aria-pressed", String(selected));
    setText(piece(row, "object-name"), object.name);
    select.title = object.named ? object.name : "";
    setText(piece(row, "object-state"), object.hidden ? "hidden" : this.words(object));
    const saver = piece(row, "object-save");
    saver.hidden = this.hooks.onSave === null || object.state !== "tracked";
    const eye = piece(row, "object-hide");
    eye.hidden = this.hooks.onHide === null;
    eye.setAttribute("aria-pressed", String(object.hidden));
    if (row.dataset.name === object.name) return;
    row.dataset.name = object.name;
    label(piece(row, "object-rename"), `Rename ${object.name}`);
    label(eye, `Hide ${object.name}`);
    label(saver, `Save the mask of ${object.name} as PNG`);
    label(piece(row, "object-delete"), `Delete ${object.name}`);
  }

  /** @param {SegObject} object */
  makeRow({ id }) {
    const row = /** @type {HTMLElement} */ (fromTemplate("object-template").firstElementChild);
    row.dataset.objectId = String(id);
    row.style.setProperty("--color", cssColor(id));
    const select = piece(row, "object-select");
    select.addEventListener("click", () => this.hooks.onSelect(id));
    select.addEventListener("dblclick", () => this.rename(id, row));
    row.addEventListener("keydown", (event) => {
      if (event.key !== "F2") return;
      event.preventDefault();
      this.rename(id, row);
    });
    piece(row, "object-rename").addEventListener("click", () => this.rename(id, row));
    piece(row, "object-hide").addEventListener("click", () => {
      this.hooks.onHide?.(id, piece(row, "object-hide").getAttribute("aria-pressed") !== "true");
    });
    piece(row, "object-delete").addEventListener("click", () => this.hooks.onDelete(id));
    piece(row, "object-save").addEventListener("click", () => this.hooks.onSave?.(id));
    return row;
  }

  /**
   * The name becomes a field until Enter, Escape, or the focus is elsewhere.
   * @param {number} id
   * @param {HTMLElement} row
   */
  rename(id, row) {
    const field = /** @type {HTMLInputElement} */ (row.querySelector(".object-field"));
    if (!field.hidden) return;
    const select = piece(row, "object-select");
    field.value = row.dataset.name ?? "";
    field.setAttribute("aria-label", `Name of ${field.value}`);
    select.hidden = true;
    field.hidden = false;
    field.focus();
    field.select();
    /** @param {boolean} keep */
    const end = (keep) => {
      if (field.hidden) return;
      const focused = document.activeElement === field;
      field.hidden = true;
      select.hidden = false;
      field.onkeydown = field.onblur = null;
      if (focused) select.focus();
      if (keep) this.hooks.onRename(id, field.value);
    };
    field.onblur = () => end(true);
    field.onkeydown = (event) => {
      event.stopPropagation();
      if (event.key === "Enter" || event.key === "Escape") end(event.key === "Enter");
    };
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

/**
 * @param {HTMLElement} row
 * @param {string} name of a class
 * @returns {HTMLElement}
 */
function piece(row, name) {
  return /** @type {HTMLElement} */ (row.querySelector(`.${name}`));
}

/**
 * @param {HTMLElement} button without words
 * @param {string} words
 */
function label(button, words) {
  button.setAttribute("aria-label", words);
  button.title = words;
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
