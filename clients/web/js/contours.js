/**
 * The outlines of a mask as polygons, so that fill and outline stay sharp at any size of the stage.
 */

/** @typedef {import("./rle.js").Bitmap} Bitmap */

// East, south, west, north: the walk keeps the mask on its right hand.
const STEP_X = [1, 0, -1, 0];
const STEP_Y = [0, 1, 0, -1];
const NORTH = 3;
// The pixels ahead of a vertex, on the left and on the right hand of each direction.
const LEFT_X = [0, 0, -1, -1];
const LEFT_Y = [-1, 0, 0, -1];
const RIGHT_X = [0, -1, -1, 0];
const RIGHT_Y = [0, 0, -1, -1];

/**
 * Closed polygons [x1, y1, x2, y2, ...] in pixels of the bitmap, holes included (fill with the even-odd rule).
 * They run through the middles of the pixels' edges, which turns staircases into slopes.
 * @param {Bitmap} bitmap
 * @returns {number[][]}
 */
export function contours(bitmap) {
  const { width, height, data } = bitmap;
  const visited = new Uint8Array(width * height);
  const polygons = [];
  for (let y = 0; y < height; y++) {
    for (let x = 0, at = y * width; x < width; x++, at++) {
      if (data[at] && !visited[at] && (x === 0 || !data[at - 1])) {
        polygons.push(follow(bitmap, visited, x, y));
      }
    }
  }
  return polygons;
}

/**
 * @param {Bitmap} bitmap @param {Uint8Array} visited pixels whose left edge was walked
 * @param {number} startX @param {number} startY a pixel whose left edge belongs to the outline
 */
function follow(bitmap, visited, startX, startY) {
  const { width, height, data } = bitmap;
  /** @param {number} x @param {number} y */
  const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && data[y * width + x] === 1;
  const polygon = [];
  let x = startX;
  let y = startY + 1;
  let direction = NORTH;
  // A vertex where two pixels touch by their corners is passed twice: only position and direction together close it.
  do {
    const before = direction;
    const firstX = x + STEP_X[before] / 2;
    const firstY = y + STEP_Y[before] / 2;
    do {
      x += STEP_X[direction];
      y += STEP_Y[direction];
      if (direction === NORTH) visited[y * width + x] = 1;
      if (!inside(x + RIGHT_X[direction], y + RIGHT_Y[direction])) direction = (direction + 1) % 4;
      else if (inside(x + LEFT_X[direction], y + LEFT_Y[direction])) direction = (direction + 3) % 4;
    } while (direction === before && !(x === startX && y === startY + 1 && direction === NORTH));
    // Runs in one direction need only their first and last middle.
    const lastX = x - STEP_X[before] / 2;
    const lastY = y - STEP_Y[before] / 2;
    polygon.push(firstX, firstY);
    if (lastX !== firstX || lastY !== firstY) polygon.push(lastX, lastY);
  } while (!(x === startX && y === startY + 1 && direction === NORTH));
  return polygon;
}
