/**
 * COCO compressed RLE: alternating run lengths of 0 and 1 in column-major order, written as text.
 */

/** @typedef {{size: [number, number], counts: string}} Rle size is [height, width] */
/** @typedef {{width: number, height: number, data: Uint8Array}} Bitmap row-major, 0 or 1 */

/**
 * The run lengths; the first run is of zeros.
 * @param {string} counts
 * @returns {number[]}
 */
export function runLengths(counts) {
  const runs = [];
  for (let at = 0; at < counts.length; ) {
    let value = 0;
    let shift = 0;
    let more = true;
    while (more) {
      const code = counts.charCodeAt(at++) - 48;
      if (!(code >= 0 && code < 64)) throw new Error("this is not COCO RLE text");
      value |= (code & 0x1f) << shift;
      more = (code & 0x20) !== 0;
      shift += 5;
      if (!more && (code & 0x10) !== 0) value |= -1 << shift;
    }
    // From the fourth run on, the text holds the difference to the run two before.
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
  }
  return runs;
}

/**
 * The mask as pixels. With `maxSide` the long side is at most that: every pixel is then the nearest one of the
 * mask, and a mask of 50 million pixels is never unpacked in full.
 * @param {Rle} rle
 * @param {number} [maxSide]
 * @returns {Bitmap}
 */
export function decode(rle, maxSide = Infinity) {
  const [height, width] = rle.size;
  const scale = Math.min(1, maxSide / Math.max(height, width));
  const outWidth = Math.max(1, Math.round(width * scale));
  const outHeight = Math.max(1, Math.round(height * scale));
  const columns = targets(width, outWidth);
  const rows = targets(height, outHeight);
  const data = new Uint8Array(outWidth * outHeight);
  let position = 0;
  let filled = false;
  for (const run of runLengths(rle.counts)) {
    if (run < 0 || position + run > width * height) throw new Error("this RLE does not fit its size");
    if (filled) fill(data, outWidth, columns, rows, height, position, position + run);
    position += run;
    filled = !filled;
  }
  if (position !== width * height) throw new Error("this RLE does not fit its size");
  return { width: outWidth, height: outHeight, data };
}

/**
 * For 0..size: how many of `count` evenly spread samples lie before that source pixel.
 * @param {number} size
 * @param {number} count
 */
function targets(size, count) {
  const before = new Uint32Array(size + 1);
  for (let index = 0; index < count; index++) before[Math.floor(((index + 0.5) * size) / count) + 1]++;
  for (let index = 0; index < size; index++) before[index + 1] += before[index];
  return before;
}

/**
 * @param {Uint8Array} data @param {number} outWidth
 * @param {Uint32Array} columns @param {Uint32Array} rows
 * @param {number} height @param {number} start @param {number} end
 */
function fill(data, outWidth, columns, rows, height, start, end) {
  for (let position = start; position < end; ) {
    const column = Math.floor(position / height);
    const top = position - column * height;
    const bottom = Math.min(height, top + end - position);
    const x = columns[column];
    if (columns[column + 1] > x) {
      for (let y = rows[top]; y < rows[bottom]; y++) data[y * outWidth + x] = 1;
    }
    position += bottom - top;
  }
}

/**
 * Whether the pixel under a point of the frame is set; the point is a share of width and height, 0 <= share < 1.
 * @param {Bitmap} bitmap @param {number} shareX @param {number} shareY
 */
export function contains(bitmap, shareX, shareY) {
  const x = Math.floor(shareX * bitmap.width);
  const y = Math.floor(shareY * bitmap.height);
  return bitmap.data[y * bitmap.width + x] === 1;
}
