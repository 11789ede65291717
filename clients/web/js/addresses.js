/**
 * Addresses of network cameras, and what is secret in them.
 */

const PARTS = /^([a-z][a-z0-9+.-]*:\/\/)(?:([^/?#]*)@)?([^/?#]*)(.*)$/i;

/**
 * @typedef {object} Address
 * @property {string} address without user and password
 * @property {string} user
 * @property {string} password
 */

/**
 * @param {string} text as somebody typed or pasted it
 * @returns {Address}
 */
export function split(text) {
  const address = text.trim();
  const [, scheme, login, host, rest] = PARTS.exec(address) ?? [];
  if (login === undefined) return { address, user: "", password: "" };
  const [user, ...password] = login.split(":");
  return { address: scheme + host + rest, user: decoded(user), password: decoded(password.join(":")) };
}

/** @param {Address} parts */
export function join({ address, user, password }) {
  const [, scheme, , host, rest] = PARTS.exec(address) ?? [];
  if (!scheme || !(user || password)) return address;
  return `${scheme}${encodeURIComponent(user)}:${encodeURIComponent(password)}@${host}${rest}`;
}

/**
 * Whether there may be something secret left in an address without user and password, as with cameras that take them
 * as parameters.
 * @param {string} address
 */
export function isSecretive(address) {
  return /[?#=@]/.test(address);
}

/**
 * The host, by which an address is shown.
 * @param {string} address without user and password
 */
export function hostOf(address) {
  return PARTS.exec(address)?.[3].replace(/^.*@/, "") ?? address;
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
