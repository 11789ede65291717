/**
 * What kind of video a file is, by its first bytes; the server goes by them as well (streamseg/media/containers.py).
 */

/** How many bytes are looked at. */
export const HEAD_BYTES = 4096;

const MP4_BOXES = new Set(["ftyp", "moov", "mdat", "free", "skip", "wide", "pnot"]);
const PICTURE_BRANDS = new Set(["avif", "heic", "heix", "heim", "heis", "mif1", "miaf", "jxl "]);
const ANIMATED = 0x02;
// Plain packets, packets behind a 4-byte arrival time, packets with error correction behind them.
const TS_LAYOUTS = [[188, 0], [192, 4], [204, 0]];
const TS_SYNC = 0x47;

/**
 * @param {Uint8Array} head
 * @returns {string | null} a name for people, null: no video that the server reads
 */
export function sniff(head) {
  /** @param {number} from @param {number} to */
  const text = (from, to) => String.fromCharCode(...head.subarray(from, to));
  if (MP4_BOXES.has(text(4, 8))) return PICTURE_BRANDS.has(text(8, 12)) ? null : "MP4";
  if (head[0] === 0x1a && text(1, 4) === "E\xdf\xa3") return "WebM or MKV";
  if (text(0, 4) === "RIFF" && text(8, 12) === "AVI ") return "AVI";
  if (text(0, 4) === "RIFF" && text(8, 12) === "WEBP") {
    return text(12, 16) === "VP8X" && head[20] & ANIMATED ? "WebP" : null;
  }
  if (/^GIF8[79]a/.test(text(0, 6))) return "GIF";
  if (inTransportStream(head)) return "MPEG-TS";
  return head[0] === 0 && head[1] === 0 && head[2] === 1 && head[3] === 0xba ? "MPEG" : null;
}

/**
 * Whether every packet of a transport stream begins where it should; a recording may begin in the middle of one.
 * @param {Uint8Array} head
 */
function inTransportStream(head) {
  for (const [length, offset] of TS_LAYOUTS) {
    for (let start = 0; start < length; start++) {
      const wanted = start === 0 ? 2 : 4;
      let found = 0;
      let at = start + offset;
      while (at < head.length && head[at] === TS_SYNC && found < 16) {
        found++;
        at += length;
      }
      if (found >= wanted && (at >= head.length || found === 16)) return true;
    }
  }
  return false;
}

const SUFFIXES = /\.(mp4|m4v|mov|qt|3gp|webm|mkv|avi|ts|m2ts|mts|mpg|mpeg)$/i;

/**
 * Whether a file goes to the tab Video, by what the browser says about it.
 * @param {{name: string, type: string}} file
 */
export function looksLikeVideo({ name, type }) {
  return type.startsWith("video/") || SUFFIXES.test(name);
}
