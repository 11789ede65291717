import assert from "node:assert/strict";
import { test } from "node:test";
import { EXCLUDE, INCLUDE, describeNext, interpret } from "../../clients/web/js/gestures.js";

const NOTHING = { selected: null, hit: null, newest: null };

test("a click beside all objects makes a new one", () => {
  assert.deepEqual(interpret("point", INCLUDE, { ...NOTHING, newest: 2 }), { kind: "new" });
});

test("a click on an object selects it", () => {
  assert.deepEqual(interpret("point", INCLUDE, { selected: null, hit: 1, newest: 2 }), { kind: "select", objectId: 1 });
});

test("with an object selected every click and box goes to it", () => {
  for (const gesture of ["point", "box"]) {
    for (const label of [INCLUDE, EXCLUDE]) {
      const action = interpret(gesture, label, { selected: 1, hit: 2, newest: 2 });
      assert.deepEqual(action, { kind: "add", objectId: 1 });
    }
  }
});

test("excluding goes to the object under the pointer, else to the newest", () => {
  assert.deepEqual(interpret("point", EXCLUDE, { selected: null, hit: 1, newest: 2 }), { kind: "add", objectId: 1 });
  assert.deepEqual(interpret("point", EXCLUDE, { selected: null, hit: null, newest: 2 }), { kind: "add", objectId: 2 });
});

test("there is nothing to exclude from before the first object", () => {
  assert.equal(interpret("point", EXCLUDE, NOTHING).kind, "none");
});

test("a box makes a new object, even across another one", () => {
  assert.deepEqual(interpret("box", INCLUDE, { selected: null, hit: 1, newest: 1 }), { kind: "new" });
});

test("the words for the next click follow the same rule", () => {
  assert.equal(describeNext(null, INCLUDE, false), "Next click or drag: new object");
  assert.equal(describeNext("Object 1", INCLUDE, true), "Next click: part of Object 1");
  assert.equal(describeNext("Object 1", EXCLUDE, true), "Next click: not part of Object 1");
  assert.equal(describeNext("Object 1", INCLUDE, true, true), "Next click: where Object 1 is now");
});
