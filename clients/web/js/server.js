/**
 * What the page knows about its server: its address, its token, and what it says about itself.
 */

const TOKEN_KEY = "streamseg.token";
const NOT_YET_KNOWN = { limits: {}, samples: { images: [], clip: null }, model: null };

export class Server {
  constructor() {
    /** @type {any} what /v1/info said */
    this.info = NOT_YET_KNOWN;
    this.takeTokenFromAddress();
  }

  /** A link may carry the token as #token=...; it does not stay in the address bar. */
  takeTokenFromAddress() {
    const fragment = new URLSearchParams(location.hash.slice(1));
    const token = fragment.get("token");
    if (!token) return;
    this.setToken(token);
    fragment.delete("token");
    history.replaceState(null, "", `${location.pathname}${location.search}#${fragment}`);
  }

  /** @param {string} token */
  setToken(token) {
    sessionStorage.setItem(TOKEN_KEY, token);
  }

  token = () => sessionStorage.getItem(TOKEN_KEY);

  get url() {
    const address = new URL("v1/stream", document.baseURI);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    address.hash = "";
    return address.href;
  }

  /**
   * Asks the server about itself; the answer is in `info`.
   * @returns {Promise<"ok" | "token" | "unreachable">}
   */
  probe = async () => {
    try {
      const answer = await this.get("v1/info");
      if (answer.status === 401) return "token";
      if (!answer.ok) return "unreachable";
      this.info = await answer.json();
      return "ok";
    } catch {
      return "unreachable";
    }
  };

  /**
   * The streams that there are; null: the server does not say.
   * @returns {Promise<import("./stream-list.js").Listed[] | null>}
   */
  async streams() {
    try {
      const answer = await this.get("v1/streams");
      return answer.ok ? (await answer.json()).streams : null;
    } catch {
      return null;
    }
  }

  /** @param {string} path */
  get(path) {
    /** @type {Record<string, string>} */
    const headers = {};
    const token = this.token();
    if (token) headers.Authorization = `Bearer ${token}`;
    return fetch(path, { headers, cache: "no-store" });
  }
}
