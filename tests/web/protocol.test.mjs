import assert from "node:assert/strict";
import { test } from "node:test";
import { base64url, pack, subprotocols, unpack } from "../../clients/web/js/protocol.js";

test("a packed message is length, header, payload", () => {
  const message = pack({ type: "frame", index: 3 }, Uint8Array.of(1, 2, 3));
  const header = '{"type":"frame","index":3}';
  assert.deepEqual([...message.slice(0, 4)], [0, 0, 0, header.length]);
  assert.equal(Buffer.from(message.slice(4, 4 + header.length)).toString(), header);
  assert.deepEqual([...message.slice(4 + header.length)], [1, 2, 3]);
});

test("the header's length counts bytes, not letters", () => {
  const { header, payload } = unpack(pack({ type: "frame", request_id: "Grüße ✓" }, Uint8Array.of(9)).buffer);
  assert.equal(header.request_id, "Grüße ✓");
  assert.deepEqual([...payload], [9]);
});

test("a message that is too short is refused", () => {
  assert.throws(() => unpack(new ArrayBuffer(3)), /shorter than its length/);
  assert.throws(() => unpack(Uint8Array.of(0, 0, 0, 9, 123, 125).buffer), /shorter than its header/);
});

test("the token travels as a second subprotocol in unpadded base64url", () => {
  assert.deepEqual(subprotocols(null), ["streamseg.v1"]);
  assert.deepEqual(subprotocols("a"), ["streamseg.v1", "streamseg.token.YQ"]);
  assert.deepEqual(subprotocols("a", "12ab"), ["streamseg.v1", "streamseg.token.YQ", "streamseg.session.12ab"]);
  assert.equal(base64url("??>>ü"), Buffer.from("??>>ü").toString("base64url"));
});
