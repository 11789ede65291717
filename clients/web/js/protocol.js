/**
 * The wire protocol's framing: binary messages and the token's subprotocol (docs/protocol.md).
 */

const SUBPROTOCOL = "streamseg.v1";
export const VERSION = 1;
const LENGTH_BYTES = 4;

/**
 * A binary message: 4-byte big-endian header length, JSON header, payload.
 * @param {Record<string, unknown>} header has a `type`
 * @param {Uint8Array} [payload]
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function pack(header, payload = new Uint8Array()) {
  const json = new TextEncoder().encode(JSON.stringify(header));
  const message = new Uint8Array(LENGTH_BYTES + json.length + payload.length);
  new DataView(message.buffer).setUint32(0, json.length);
  message.set(json, LENGTH_BYTES);
  message.set(payload, LENGTH_BYTES + json.length);
  return message;
}

/**
 * The parts of a binary message; throws an Error if it is not one.
 * @param {ArrayBuffer} buffer
 * @returns {{header: Record<string, any>, payload: Uint8Array<ArrayBuffer>}}
 */
export function unpack(buffer) {
  if (buffer.byteLength < LENGTH_BYTES) throw new Error("a binary message is shorter than its length field");
  const length = new DataView(buffer).getUint32(0);
  if (length > buffer.byteLength - LENGTH_BYTES) throw new Error("a binary message is shorter than its header");
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, LENGTH_BYTES, length)));
  return { header, payload: new Uint8Array(buffer, LENGTH_BYTES + length) };
}

/**
 * The subprotocols to offer. A browser cannot set headers on a websocket, so the token travels as one of them, and so
 * does the session to come back to: a full server then lets this client in to its own place.
 * @param {string | null} token
 * @param {string | null} [sessionId]
 * @returns {string[]}
 */
export function subprotocols(token, sessionId = null) {
  const offered = [SUBPROTOCOL];
  if (token) offered.push(`streamseg.token.${base64url(token)}`);
  if (sessionId) offered.push(`streamseg.session.${sessionId}`);
  return offered;
}

/**
 * Unpadded base64url of the text's UTF-8 bytes.
 * @param {string} text
 */
export function base64url(text) {
  const binary = String.fromCharCode(...new TextEncoder().encode(text));
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
