import assert from "node:assert/strict";
import { test } from "node:test";
import { History } from "../../clients/web/js/history.js";

const mark = (x) => ({ kind: "point", x, y: 0.5, label: 1 });

function made(...entries) {
  const history = new History();
  for (const [objectId, said] of entries) history.add(objectId, said);
  return history;
}

test("the newest mark comes out first, whichever object it is of", () => {
  const history = made([1, mark(0.1)], [2, mark(0.2)], [1, mark(0.3)]);
  const out = [history.pop(), history.pop(), history.pop(), history.pop()];
  assert.deepEqual(out.map((entry) => entry && [entry.objectId, entry.mark.x]), [[1, 0.3], [2, 0.2], [1, 0.1], null]);
});

test("equal marks are still two", () => {
  const [first, second] = [mark(0.1), mark(0.1)];
  const history = made([1, first], [1, second]);
  history.drop(first);
  assert.equal(history.size, 1);
  assert.equal(history.pop().mark, second);
});

test("an object's marks are forgotten, but for the one that is kept", () => {
  const kept = mark(0.3);
  const history = made([1, mark(0.1)], [2, mark(0.2)], [1, kept]);
  history.forget(1, kept);
  assert.deepEqual(history.entries.map(({ objectId }) => objectId), [2, 1]);
  history.forget(1);
  assert.deepEqual(history.entries.map(({ objectId }) => objectId), [2]);
});

test("when a session ends, objects that go on by their mask leave its marks behind, others are told again", () => {
  const [early, late, unseen] = [mark(0.1), mark(0.2), mark(0.3)];
  const history = made([1, early], [2, unseen], [1, late]);
  history.tell(early);
  history.tell(unseen);
  assert.deepEqual(history.untold().map((entry) => entry.mark), [late]);
  history.sessionEnded((id) => id === 1);
  assert.deepEqual(history.untold().map((entry) => entry.mark), [unseen, late]);
  assert.equal(history.size, 2);
});
