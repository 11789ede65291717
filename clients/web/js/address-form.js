/**
 * The form for the address of a network camera. A password is taken out of the address as soon as it was entered, and is
 * kept nowhere but in its own field.
 */

import { hostOf, isSecretive, join, split } from "./addresses.js";
import { part, setText } from "./dom.js";
import { rememberWord, rememberedWord } from "./preferences.js";

const PREFERENCE = "camera.address";

/**
 * @typedef {object} Camera
 * @property {string} url with everything that it needs
 * @property {string | null} name under which others find it
 * @property {string} host
 */

export class AddressForm {
  /**
   * @param {HTMLElement} host
   * @param {(camera: Camera) => void} onConnect
   */
  constructor(host, onConnect) {
    this.host = host;
    /** @type {HTMLButtonElement} */
    this.opener = part(host, "network");
    /** @type {HTMLFormElement} */
    this.form = part(host, "address-form");
    /** @type {HTMLInputElement} */
    this.address = part(host, "address");
    /** @type {HTMLInputElement} */
    this.user = part(host, "address-user");
    /** @type {HTMLInputElement} */
    this.password = part(host, "address-password");
    /** @type {HTMLInputElement} */
    this.name = part(host, "address-name");
    this.address.value = rememberedWord(PREFERENCE, "");
    this.opener.addEventListener("click", () => {
      this.unfold(this.form.hidden);
      if (!this.form.hidden) this.address.focus();
    });
    /** The host that user and password were given for. */
    this.knownTo = hostOf(this.address.value);
    this.address.addEventListener("change", () => this.tidy());
    this.address.addEventListener("input", () => {
      this.address.removeAttribute("aria-invalid");
      if (!this.address.value) this.address.type = "text";
    });
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.tidy();
      // Whoever types it sees it; whoever looks on later does not.
      if (isSecretive(this.address.value)) this.address.type = "password";
      const address = this.address.value;
      const url = join({ address, user: this.user.value, password: this.password.value });
      onConnect({ url, name: this.name.value.trim() || null, host: hostOf(address) });
    });
  }

  /** @param {boolean} offered whether the server opens addresses */
  offer(offered) {
    this.opener.hidden = !offered;
    if (!offered) this.unfold(false);
    else if (this.address.value) this.unfold(true);
  }

  /** @param {boolean} open */
  unfold(open) {
    this.form.hidden = !open;
    this.opener.setAttribute("aria-expanded", String(open));
  }

  /** Puts user and password where they belong. */
  tidy() {
    const { address, user, password } = split(this.address.value);
    this.address.value = address;
    const host = hostOf(address);
    const moved = this.knownTo !== "" && host !== this.knownTo;
    this.knownTo = host;
    if (!user && !password) {
      // What one camera is told is none of another one's business.
      if (moved) this.user.value = this.password.value = "";
      return;
    }
    this.user.value = user;
    this.password.value = password;
    part(this.host, "address-more").open = true;
  }

  /** @param {string} words what the form waits for; empty: nothing */
  setWaiting(words) {
    setText(part(this.host, "address-status"), words);
    part(this.host, "address-connect").disabled = words !== "";
  }

  /** It did not work, and the user is to look at the address again. */
  refused() {
    this.address.setAttribute("aria-invalid", "true");
    if (!this.form.hidden) this.address.focus();
  }

  /** It worked. */
  accepted() {
    if (!isSecretive(this.address.value)) rememberWord(PREFERENCE, this.address.value);
  }
}
