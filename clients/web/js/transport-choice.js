/**
 * The choice of the way that frames take, and what has become of it.
 */

import { fromTemplate, part, setText } from "./dom.js";
import { TRANSPORT_FELL_BACK } from "./messages.js";
import { rememberWord, rememberedWord } from "./preferences.js";

const PREFERENCE = "transport";
const AUTOMATIC = "automatic";
const WEBRTC = "webrtc";
const WEBSOCKET = "websocket";

export class TransportChoice {
  /**
   * @param {HTMLElement} place where it is put
   * @param {() => void} onChange
   */
  constructor(place, onChange) {
    place.append(fromTemplate("transport-template"));
    this.place = place;
    /** @type {HTMLSelectElement} */
    this.select = part(place, "transport");
    const wanted = rememberedWord(PREFERENCE, AUTOMATIC);
    this.select.value = [WEBRTC, WEBSOCKET].includes(wanted) ? wanted : AUTOMATIC;
    this.select.addEventListener("change", () => {
      rememberWord(PREFERENCE, this.select.value);
      onChange();
    });
  }

  /** Whether frames are to go over WebRTC. */
  get wantsPeer() {
    return wantsPeer(this.select.value, location.hostname);
  }

  /**
   * @param {boolean} overPeer whether they do
   * @param {import("./live-session.js").FellBack | null} fellBack why they do not
   * @param {boolean} connected whether there is a session
   */
  show(overPeer, fellBack, connected) {
    const way = overPeer ? "WebRTC" : "websocket";
    setText(part(this.place, "way"), connected ? way : "–");
    const words = connected && !overPeer && fellBack ? TRANSPORT_FELL_BACK[fellBack] : "";
    const place = part(this.place, "way-words");
    setText(place, words);
    place.hidden = !words;
  }
}

/**
 * By itself the page takes WebRTC where there is a network between it and the server: a lost packet holds up nothing
 * there. On one machine nothing is lost, and browsers do not take its own address for WebRTC.
 * @param {string} choice
 * @param {string} host of the server
 */
export function wantsPeer(choice, host) {
  if (choice !== AUTOMATIC) return choice === WEBRTC;
  return !/^(localhost|.*\.localhost|127(\.\d+){3}|\[::1\])$/.test(host);
}
