import assert from "node:assert/strict";
import { test } from "node:test";
import { Announcer } from "../../clients/web/js/announcer.js";

const one = (state, name = "Object 1") => [{ id: 1, name, state }];

test("an object that is found, lost and found again is told of, once each", () => {
  const announcer = new Announcer();
  assert.equal(announcer.words(one("waiting"), 0), "");
  assert.equal(announcer.words(one("tracked"), 100), "Object 1 found.");
  assert.equal(announcer.words(one("tracked"), 10_000), "");
  assert.equal(announcer.words(one("lost", "Cup"), 20_000), "Cup lost.");
  assert.equal(announcer.words(one("lost"), 30_000), "");
  assert.equal(announcer.words(one("tracked"), 40_000), "Object 1 found again.");
});

test("nothing is said while the last words may still be heard, and then only what holds", () => {
  const announcer = new Announcer();
  announcer.words(one("tracked"), 0);
  assert.equal(announcer.words(one("lost"), 500), "");
  assert.equal(announcer.words(one("tracked"), 5000), "", "it was lost for a moment only");
  assert.equal(announcer.words(one("lost"), 6000), "Object 1 lost.");
  assert.equal(announcer.words(one("tracked"), 7000), "");
  assert.equal(announcer.words(one("tracked"), 9000), "Object 1 found again.");
});

test("several objects are told of in one go", () => {
  const announcer = new Announcer();
  const objects = [{ id: 1, name: "Cup", state: "tracked" }, { id: 2, name: "Object 2", state: "lost" }];
  assert.equal(announcer.words(objects, 0), "Cup found. Object 2 not found.");
});

test("an object that was deleted is forgotten", () => {
  const announcer = new Announcer();
  announcer.words(one("tracked"), 0);
  announcer.words([], 5000);
  assert.equal(announcer.words(one("tracked"), 10_000), "Object 1 found.");
});
