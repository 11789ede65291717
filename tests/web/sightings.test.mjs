import assert from "node:assert/strict";
import { test } from "node:test";
import { Sightings } from "../../clients/web/js/sightings.js";

const mask = (counts) => ({ size: [2, 3], counts });
const found = (object_id, counts, state = "tracked") => ({ object_id, state, rle: mask(counts) });
const all = () => true;

test("objects that were last seen on one picture are told together, the oldest picture first", () => {
  const sightings = new Sightings();
  sightings.note("a", [found(1, "1a"), found(2, "2a"), found(3, "3a")], all);
  sightings.note("b", [found(1, "1b"), found(2, "", "lost"), found(3, "3b")], all);
  sightings.note("c", [found(1, "1c"), found(2, "", "lost"), found(3, "", "lost")], all);
  assert.deepEqual(sightings.rounds(), [
    { picture: "a", prompts: [{ object_id: 2, mask: mask("2a") }] },
    { picture: "b", prompts: [{ object_id: 3, mask: mask("3b") }] },
    { picture: "c", prompts: [{ object_id: 1, mask: mask("1c") }] },
  ]);
});

test("a picture is given back once nothing was last seen on it", () => {
  const sightings = new Sightings();
  assert.deepEqual(sightings.note("a", [found(1, "1a"), found(2, "2a")], all), []);
  assert.deepEqual(sightings.note("b", [found(1, "1b"), found(2, "", "lost")], all), []);
  assert.deepEqual(sightings.note("c", [found(1, "1c"), found(2, "2c")], all).sort(), ["a", "b"]);
  assert.deepEqual(sightings.note("d", [found(1, "", "lost"), found(2, "", "lost")], all), ["d"]);
});

test("what was deleted is not kept, nor taken up from a late result", () => {
  const sightings = new Sightings();
  sightings.note("a", [found(1, "1a"), found(2, "2a")], all);
  assert.deepEqual(sightings.note("b", [found(1, "1b"), found(2, "2b")], (id) => id === 2), ["a"]);
  assert.ok(!sightings.has(1));
  assert.deepEqual(sightings.rounds().map(({ picture }) => picture), ["b"]);
});
