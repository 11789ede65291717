import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Objects } from "../../clients/web/js/objects.js";
import { SharedObjects } from "../../clients/web/js/shared-objects.js";

let objects;
let shared;

beforeEach(() => {
  objects = new Objects(() => {});
  shared = new SharedObjects(objects);
});

function take(...ids) {
  const found = ids.map((id) => ({ object_id: id, state: "lost", score: 0, area_px: 0, box_xyxy_px: null }));
  return shared.take({ width: 8, height: 6, objects: found });
}

function click() {
  const object = objects.add();
  objects.mark(object, { kind: "point", x: 0.5, y: 0.5, label: 1 });
  shared.told(object.id);
  return object;
}

const ids = () => [...objects.byId.keys()];

test("objects of others come with a result, go with one, and are counted", () => {
  assert.equal(take(3, 7), 0);
  assert.deepEqual(objects.all().map(({ name, own }) => [name, own]), [["Object 3", false], ["Object 7", false]]);
  assert.equal(take(7), 1);
  assert.deepEqual(ids(), [7]);
  assert.equal(click().id, 8);
});

test("an object that was just made here is waited for, but not for ever", () => {
  click();
  for (let results = 0; results < 20; results++) assert.equal(take(), 0);
  assert.deepEqual(ids(), [1]);
  assert.equal(take(), 1);
  assert.deepEqual(ids(), []);
});

test("an object that results have named goes with the first that does not", () => {
  click();
  take();
  take(1);
  assert.equal(take(), 1);
});

test("what was removed here stays away while results are late, and comes back if it stays", () => {
  take(1, 2);
  click();
  objects.remove(1);
  objects.remove(3);
  assert.equal(take(1, 2, 3), 0);
  assert.deepEqual(ids(), [2]);
  take(2);
  take(1, 2);
  assert.deepEqual(ids(), [2, 1], "somebody made it anew");
  objects.clear();
  for (let results = 0; results < 20; results++) take(1, 2);
  assert.deepEqual(ids(), []);
  take(1, 2);
  assert.deepEqual(ids(), [1, 2], "the server did not hear of it");
});

test("a click into somebody else's object is taken back without the object", () => {
  take(5);
  objects.mark(objects.byId.get(5), { kind: "point", x: 0.1, y: 0.1, label: 1 });
  shared.told(5);
  objects.undo();
  assert.deepEqual(ids(), [5]);
  assert.equal(take(), 1);
});
