import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { RtpClock } from "../../clients/web/js/rtp-clock.js";

// Wraps within the tests.
const ORIGIN = 2 ** 32 - 90 * 150;
const rtpAt = (ms) => (ORIGIN + Math.round(90 * ms)) % 2 ** 32;
const pictures = (...times) => times.map((takenMs) => ({ takenMs }));

let clock;

beforeEach(() => {
  clock = new RtpClock();
});

/** A picture that was taken, captured and encoded at these times. */
function send(takenMs, capturedMs = takenMs + 3, encodedMs = capturedMs + 8) {
  clock.taken(takenMs);
  clock.sent(rtpAt(capturedMs), encodedMs);
  return rtpAt(capturedMs);
}

test("each frame is of its own picture, however irregularly they were captured", () => {
  const times = [0, 40, 51, 160, 333];
  const late = [25, 0, 9, 30, 2];
  const sent = times.map((ms, at) => send(ms, ms + late[at], ms + late[at] + 1));
  const kept = pictures(...times);
  assert.deepEqual(sent.map((rtp) => clock.pictureOf(rtp, kept)?.takenMs), times);
  assert.equal(clock.estimated, false);
});

test("a frame without a new picture shows the former one again", () => {
  send(0);
  clock.sent(rtpAt(500), 508);
  assert.equal(clock.pictureOf(rtpAt(500), pictures(0)).takenMs, 0);
});

test("a picture that the encoder left out is nobody's", () => {
  send(0);
  send(100);
  clock.taken(200);
  const third = send(300);
  assert.equal(clock.pictureOf(third, pictures(100, 200, 300)).takenMs, 300);
  assert.deepEqual(clock.unsentMs, []);
});

test("a frame whose successor was taken while it was encoded is not the successor's", () => {
  send(0);
  send(100);
  clock.taken(200);
  clock.taken(240);
  clock.sent(rtpAt(203), 245);
  clock.sent(rtpAt(243), 260);
  const kept = pictures(200, 240);
  assert.equal(clock.pictureOf(rtpAt(203), kept).takenMs, 200);
  assert.equal(clock.pictureOf(rtpAt(243), kept).takenMs, 240);
});

test("a picture that is no longer kept is not replaced by another one", () => {
  const rtp = send(0);
  assert.equal(clock.pictureOf(rtp, pictures(100)), null);
});

test("a browser that tells no timestamps has them estimated from the way there and back", () => {
  assert.equal(clock.known, false);
  assert.equal(clock.pictureOf(rtpAt(0), pictures(0)), null);
  const taken = [0, 100, 200, 300, 400];
  const way = [80, 95, 70, 85, 80];
  taken.forEach((ms, at) => clock.answered(rtpAt(ms + 5), ms + way[at] + 10, 80));
  assert.ok(clock.known && clock.estimated);
  const kept = pictures(...taken);
  assert.deepEqual(taken.map((ms) => clock.pictureOf(rtpAt(ms + 5), kept)?.takenMs), taken);
});

test("nothing is kept for ever", () => {
  for (let at = 0; at < 500; at++) send(40 * at);
  clock.taken(1e6);
  assert.ok(clock.frames.length <= 64 && clock.guesses.length <= 15 && clock.unsentMs.length === 1);
});
