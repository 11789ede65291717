import assert from "node:assert/strict";
import { test } from "node:test";
import {
  NOTHING_FOUND,
  cameraProblem,
  connectionProblem,
  fileTooLarge,
  problem,
  serverProblem,
  sourceLost,
  streamProblem,
} from "../../clients/web/js/messages.js";

test("every failure of a camera has its own words", () => {
  const names = ["NotAllowedError", "NotFoundError", "NotReadableError", "OverconstrainedError", "AbortError", "SecurityError"];
  const words = names.map((name) => cameraProblem(new DOMException("x", name)));
  assert.equal(new Set(words).size, names.length);
  assert.match(cameraProblem(new TypeError("odd")), /could not be started/);
  assert.match(cameraProblem(undefined), /could not be started/);
  const bySystem = cameraProblem(new DOMException("Permission denied by system", "NotAllowedError"));
  assert.match(bySystem, /privacy settings/);
});

test("what the server says about a file is passed on as a sentence", () => {
  const words = serverProblem({ code: "unsupported_media", message: "these bytes are no picture" });
  assert.equal(words, "This file cannot be used: these bytes are no picture.");
});

test("a click that was refused at once is told from one under which nothing was found", () => {
  const error = { code: "bad_prompt", message: "object 1 has too many points" };
  assert.equal(serverProblem(error), "That click could not be used: object 1 has too many points.");
  assert.equal(serverProblem({ ...error, message: "nothing was found where object 1 was pointed at", index: 0 }), NOTHING_FOUND);
});

test("another shape of the picture has its own words", () => {
  assert.match(serverProblem({ code: "frame_size", message: "the frame has 3 x 4 pixels", index: 7 }), /changes its shape/);
});

test("why a stream has no pictures is said, how the tries go is not", () => {
  const goesOn = "The stream goes on, with your objects, as soon as it is back.";
  for (const why of ["door does not answer", "door does not answer; trying again in 4 s"])
    assert.equal(sourceLost(why), `No new pictures: door does not answer. ${goesOn}`);
  for (const why of ["", "trying again in 4 s", "; trying again in 4 s"])
    assert.equal(sourceLost(why), `No new pictures. ${goesOn}`);
});

test("problems of a video are sentences of their own", () => {
  assert.equal(problem("object 2: nothing was found"), "Object 2: nothing was found.");
});

test("an unknown code still gives the server's words", () => {
  assert.equal(serverProblem({ code: "new_one", message: "Something odd." }), "Something odd.");
  assert.match(serverProblem({ code: "internal", message: "" }), /went wrong/);
});

test("sizes are told in megabytes", () => {
  assert.match(fileTooLarge(40 * 2 ** 20, 32 * 2 ** 20), /40 MB.*32 MB/);
});

test("every end of a connection has its own words, and what becomes of the objects is said", () => {
  const whys = ["busy", "unreachable", "no_session", "offline", "lost", "restarting", "fault", "slowed"];
  assert.equal(new Set(whys.map((why) => connectionProblem(why, false))).size, whys.length);
  const promised = whys.filter((why) => /go on/.test(connectionProblem(why, true)));
  assert.deepEqual(promised, ["lost", "restarting", "fault", "slowed"]);
  assert.equal(connectionProblem("", true), null);
});

test("what is no address is not said to be an address that is not opened", () => {
  const error = { code: "address_refused", message: "this is no address; one begins with rtsp://" };
  assert.equal(streamProblem(error, { url: "foo", name: null }), "This is no address; one begins with rtsp://.");
  const other = { ...error, message: "ftp:// is not opened" };
  assert.equal(streamProblem(other, { url: "ftp://a", name: null }), "This server does not open that address: ftp:// is not opened.");
});
