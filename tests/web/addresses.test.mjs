import assert from "node:assert/strict";
import { test } from "node:test";
import { hostOf, isSecretive, join, split } from "../../clients/web/js/addresses.js";

test("user and password are taken out of an address, and put back so that it can be read", () => {
  const cases = [
    ["rtsp://admin:secret@10.0.0.7:554/one", "rtsp://10.0.0.7:554/one", "admin", "secret"],
    ["  HTTP://a%40b:p%2Fq%3A@[::1]:80/x?y=1 ", "HTTP://[::1]:80/x?y=1", "a@b", "p/q:"],
    ["rtsp://admin@door/", "rtsp://door/", "admin", ""],
    ["rtsp://u:p@ss@door", "rtsp://door", "u", "p@ss"],
    ["rtsp://u:100%@door", "rtsp://door", "u", "100%"],
    ["rtsp://door/a@b", "rtsp://door/a@b", "", ""],
    ["door", "door", "", ""],
  ];
  for (const [text, address, user, password] of cases) {
    assert.deepEqual(split(text), { address, user, password }, text);
    assert.deepEqual(split(join({ address, user, password })), { address, user, password }, text);
  }
  assert.equal(join({ address: "rtsp://door/", user: "a b", password: "p@/" }), "rtsp://a%20b:p%40%2F@door/");
  assert.equal(join({ address: "rtsp://door/", user: "", password: "" }), "rtsp://door/");
});

test("what may hold a secret elsewhere is known", () => {
  for (const address of ["rtsp://door/?pw=1", "rtsp://door/user=a", "rtsp://door/#x", "rtsp://u:p/q@door"]) {
    assert.ok(isSecretive(split(address).address), address);
  }
  assert.ok(!isSecretive("rtsp://10.0.0.7:554/one"));
});

test("an address is shown by its host", () => {
  assert.equal(hostOf("rtsp://10.0.0.7:554/one?two"), "10.0.0.7:554");
  assert.equal(hostOf("door"), "door");
});
