"""decode_image: every accepted kind of picture, and a named error for everything else."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from streamseg.errors import BadSettingError, NotFoundError, TooLargeError, UnsupportedMediaError
from streamseg.media.image import IMAGE_SUFFIXES, ImageLimits, decode_image

# Four quadrants: red, green / blue, white. Blocks of 16 survive JPEG.
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quadrants(width: int = 48, height: int = 32) -> Image.Image:
    array = np.zeros((height, width, 3), np.uint8)
    array[: height // 2, : width // 2], array[: height // 2, width // 2 :] = RED, GREEN
    array[height // 2 :, : width // 2], array[height // 2 :, width // 2 :] = BLUE, WHITE
    return Image.fromarray(array)


def encoded(picture: Image.Image, format_: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format_, **options)
    return buffer.getvalue()


def noise(mode: str = "RGB", side: int = 64) -> Image.Image:
    array = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(array).convert(mode)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * (min(height, 100) * (1 + 3 * min(width, 100))))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_every_accepted_format_is_decoded(format_: str) -> None:
    frame = decode_image(encoded(quadrants(), format_), index=3, time_s=0.5)
    assert (frame.width, frame.height, frame.index, frame.time_s) == (48, 32, 3, 0.5)
    for (y, x), color in {(6, 8): RED, (6, 40): GREEN, (26, 8): BLUE, (26, 40): WHITE}.items():
        assert np.abs(frame.rgb[y, x].astype(int) - color).max() < 12


# Where the corners (top left, top right, bottom left, bottom right) of the upright picture are stored.
ORIENTATIONS = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(format_: str, orientation: int) -> None:
    upright = np.array(quadrants())
    stored = Image.fromarray(np.ascontiguousarray(ORIENTATIONS[orientation](upright)))
    exif = Image.Exif()
    exif[274] = orientation
    options: dict[str, Any] = {"lossless": True} if format_ == "WEBP" else {}
    if format_ == "JPEG":
        options = {"quality": 95, "subsampling": 0}
    data = encoded(stored, format_, exif=exif, **options)
    frame = decode_image(data)
    assert frame.rgb.shape == upright.shape
    assert np.abs(frame.rgb.astype(int) - upright).max() <= 8
    assert np.array_equal(decode_image(Image.open(io.BytesIO(data))).rgb, frame.rgb)


def test_orientation_also_holds_for_16_bit_and_alpha() -> None:
    exif = Image.Exif()
    exif[274] = 6
    deep = Image.fromarray(np.array([[0, 65535]], dtype=np.uint16))
    assert decode_image(encoded(deep, "PNG", exif=exif)).rgb[:, :, 0].tolist() == [[0], [255]]
    clear = Image.fromarray(np.array([[[9, 9, 9, 255], [0, 0, 0, 0]]], dtype=np.uint8), "RGBA")
    assert decode_image(encoded(clear, "PNG", exif=exif)).rgb[:, :, 0].tolist() == [[9], [255]]


def test_a_strange_orientation_value_means_upright() -> None:
    exif = Image.Exif()
    exif[274] = 99
    assert decode_image(encoded(quadrants(), "PNG", exif=exif)).rgb.shape == (32, 48, 3)


@pytest.mark.filterwarnings("ignore")
def test_damaged_exif_does_not_cost_the_picture() -> None:
    data = encoded(quadrants(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\xff\xff\xff\xff" * 9)
    assert decode_image(data).rgb.shape == (32, 48, 3)


def grey_alpha(values: list[tuple[int, int]]) -> Image.Image:
    return Image.merge("LA", [Image.fromarray(np.array([column], np.uint8)) for column in zip(*values, strict=True)])


def palette(transparency: int | bytes | None) -> bytes:
    picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    return encoded(picture, "PNG", **({} if transparency is None else {"transparency": transparency}))


MODES = {
    "grey": (encoded(Image.fromarray(np.array([[0, 100, 255]], np.uint8)), "PNG"), [[0] * 3, [100] * 3, [255] * 3]),
    "grey and alpha over white": (
        encoded(grey_alpha([(0, 255), (0, 0), (0, 128)]), "PNG"),
        [[0] * 3, [255] * 3, [127] * 3],
    ),
    "rgba over white": (
        encoded(Image.fromarray(np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 51]]], np.uint8)), "PNG"),
        [[255, 0, 0], [255, 255, 255], [204, 204, 204]],
    ),
    "palette": (palette(None), [RED, GREEN, BLUE]),
    "palette with one transparent colour": (palette(1), [RED, WHITE, BLUE]),
    "palette with alpha": (palette(bytes([255, 0, 51])), [RED, WHITE, (204, 204, 255)]),
    "grey with a transparent value": (
        encoded(Image.fromarray(np.array([[0, 7, 9]], np.uint8)), "PNG", transparency=7),
        [[0] * 3, [255] * 3, [9] * 3],
    ),
    "rgb with a transparent colour": (
        encoded(Image.fromarray(np.array([[RED, (1, 2, 3), BLUE]], np.uint8)), "PNG", transparency=(1, 2, 3)),
        [RED, WHITE, BLUE],
    ),
    "one bit": (
        encoded(Image.fromarray(np.array([[0, 255, 0]], np.uint8)).convert("1"), "PNG"),
        [[0] * 3, [255] * 3, [0] * 3],
    ),
    "transparent gif": (
        encoded(Image.fromarray(np.array([[[255, 0, 0, 255], [0, 0, 0, 0], [0, 0, 255, 255]]], np.uint8)), "GIF"),
        [RED, WHITE, BLUE],
    ),
}


@pytest.mark.parametrize(("data", "expected"), MODES.values(), ids=MODES.keys())
def test_colour_kinds_become_rgb(data: bytes, expected: list[list[int]]) -> None:
    rgb = decode_image(data).rgb.astype(int)
    assert np.abs(rgb[0] - np.array(expected)).max() <= 1


def test_cmyk_in_jpeg_and_tiff() -> None:
    """Adobe stores CMYK JPEGs inverted, TIFF does not; both come out with the same colours."""
    cmyk = quadrants().convert("CMYK")
    for data in (encoded(cmyk, "JPEG", quality=95), encoded(cmyk, "TIFF")):
        rgb = decode_image(data).rgb.astype(int)
        for (y, x), color in {(6, 8): RED, (6, 40): GREEN, (26, 8): BLUE, (26, 40): WHITE}.items():
            assert np.abs(rgb[y, x] - color).max() < 12


def test_lab_colours_are_refused_with_a_way_out() -> None:
    with pytest.raises(UnsupportedMediaError, match="LAB"):
        decode_image(encoded(Image.new("LAB", (4, 4)), "TIFF"))


def big_endian_tiff(values: list[int]) -> bytes:
    picture = Image.frombytes("I;16B", (len(values), 1), np.array(values, ">u2").tobytes())
    return encoded(picture, "TIFF")


STEPS = [0, 256, 32768, 65535]
DEEP = {
    "png": encoded(Image.fromarray(np.array([STEPS], np.uint16)), "PNG"),
    "tiff": encoded(Image.fromarray(np.array([STEPS], np.uint16)), "TIFF"),
    "big-endian tiff": big_endian_tiff(STEPS),
    "32-bit tiff": encoded(Image.fromarray(np.array([STEPS], np.int32)), "TIFF"),
}


@pytest.mark.parametrize("data", DEEP.values(), ids=DEEP.keys())
def test_16_bits_span_the_full_range(data: bytes) -> None:
    assert decode_image(data).rgb[0, :, 1].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("data", DEEP.values(), ids=DEEP.keys())
def test_the_window_becomes_black_to_white(data: bytes) -> None:
    assert decode_image(data, window=(0, 512)).rgb[0, :, 1].tolist() == [0, 128, 255, 255]
    assert decode_image(data, window=(256, 65535)).rgb[0, :, 1].tolist() == [0, 0, 127, 255]


def test_a_16_bit_tiff_in_which_white_is_zero() -> None:
    data = encoded(Image.fromarray(np.array([[0, 65535]], np.uint16)), "TIFF", tiffinfo={262: 0})
    with Image.open(io.BytesIO(data)) as picture:
        assert isinstance(picture, TiffImagePlugin.TiffImageFile)
        if picture.tag_v2[262] != 0:
            pytest.skip("this Pillow writes another tag")
    assert decode_image(data).rgb[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([-10.0, 0.0, 10.0], [0, 128, 255]),
        ([0.0, float("nan"), 1.0], [0, 0, 255]),
        ([float("-inf"), 0.5, float("inf")], [0, 128, 255]),
        ([7.0, 7.0, 7.0], [128, 128, 128]),
        ([float("nan")] * 3, [0, 0, 0]),
    ],
)
def test_float_tiff(values: list[float], expected: list[int]) -> None:
    data = encoded(Image.fromarray(np.array([values], np.float32)), "TIFF")
    assert decode_image(data).rgb[0, :, 0].tolist() == expected


@pytest.mark.parametrize("window", [(5, 5), (9, 2), (0, float("nan")), (0,), "ab", 3])
def test_an_impossible_window_is_named(window: Any) -> None:
    with pytest.raises(BadSettingError, match="window"):
        decode_image(DEEP["png"], window=window)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([[7]], np.uint8), [7, 7, 7]),
        (np.array([[[7]]], np.uint8), [7, 7, 7]),
        (np.array([[[1, 2, 3]]], np.uint8), [1, 2, 3]),
        (np.array([[[1, 2, 3, 0]]], np.uint8), [255, 255, 255]),
        (np.array([[65535]], np.uint16), [255, 255, 255]),
        (np.array([[256]], ">u2"), [1, 1, 1]),
        (np.array([[[0, 32768, 65535]]], np.uint16), [0, 128, 255]),
        (np.array([[True]]), [255, 255, 255]),
    ],
)
def test_numpy_arrays(array: np.ndarray[Any, Any], expected: list[int]) -> None:
    frame = decode_image(array)
    assert frame.rgb.shape == (1, 1, 3)
    assert frame.rgb[0, 0].tolist() == expected


def test_a_strided_array_becomes_contiguous() -> None:
    bgr = np.zeros((4, 5, 3), np.uint8)
    bgr[:, :, 0] = 200
    rgb = decode_image(bgr[:, :, ::-1]).rgb
    assert rgb.flags.c_contiguous
    assert rgb[0, 0].tolist() == [0, 0, 200]


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((4, 4, 3), np.float32), "uint8"),
        (np.zeros((4, 4), np.int64), "uint8"),
        (np.zeros((3, 8, 8), np.uint8), "transpose"),
        (np.zeros((2, 8, 8, 3), np.uint8), "shape"),
        (np.zeros(12, np.uint8), "shape"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        (np.array([["a"]]), "uint8"),
    ],
)
def test_arrays_that_are_no_picture(array: np.ndarray[Any, Any], says: str) -> None:
    with pytest.raises(UnsupportedMediaError, match=says):
        decode_image(array)


def test_paths_file_objects_and_other_bytes(tmp_path: Path) -> None:
    data = encoded(quadrants(), "PNG")
    path = tmp_path / "picture.with.a.strange.name"
    path.write_bytes(data)
    expected = decode_image(data).rgb
    with path.open("rb") as file:
        for source in (path, str(path), file, io.BytesIO(data), bytearray(data), memoryview(data), quadrants()):
            assert np.array_equal(decode_image(source).rgb, expected)


def test_paths_that_are_no_picture(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no such file: .*gone\.jpg"):
        decode_image(tmp_path / "gone.jpg")
    with pytest.raises(UnsupportedMediaError, match="folder"):
        decode_image(tmp_path)
    (tmp_path / "empty.png").touch()
    with pytest.raises(UnsupportedMediaError, match="empty"):
        decode_image(tmp_path / "empty.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UnsupportedMediaError, match="no regular file"):
        decode_image(tmp_path / "pipe.png")
    with pytest.raises(NotFoundError):
        decode_image("a\0b")
    with pytest.raises(UnsupportedMediaError, match="cannot be read"):
        decode_image("x" * 5000)


def test_an_address_is_never_fetched() -> None:
    with pytest.raises(NotFoundError, match="not fetched"):
        decode_image("http://127.0.0.1/photo.jpg")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"hello", "JPEG, PNG"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"<svg xmlns='x'/>", "SVG"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (encoded(quadrants(), "PPM"), "JPEG, PNG"),
        (encoded(quadrants(), "ICO"), "JPEG, PNG"),
        (b"\xff\xd8\xff", "truncated|accepted"),
        (b"\x89PNG\r\n\x1a\n", "truncated|accepted"),
    ],
)
def test_bytes_that_are_no_accepted_picture(data: bytes, says: str) -> None:
    with pytest.raises(UnsupportedMediaError, match=says):
        decode_image(data)


@pytest.mark.parametrize("source", [None, 5, [1, 2], object(), io.StringIO("text")])
def test_other_types_are_named(source: Any) -> None:
    with pytest.raises(UnsupportedMediaError, match=r"image is a path|binary mode"):
        decode_image(source)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
@pytest.mark.filterwarnings("ignore")
def test_a_truncated_file_is_called_so(format_: str, share: float) -> None:
    data = encoded(noise(), format_)
    with pytest.raises(UnsupportedMediaError, match=r"truncated|accepted"):
        decode_image(data[: int(len(data) * share)])


def test_one_pixel_is_a_picture() -> None:
    for format_ in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"):
        assert decode_image(encoded(Image.new("RGB", (1, 1)), format_)).rgb.shape == (1, 1, 3)


def test_the_header_is_checked_before_any_pixel_is_decoded() -> None:
    """A file of a few hundred bytes that claims 400 megapixels costs no memory."""
    tracemalloc.start()
    with pytest.raises(TooLargeError, match="pixels; at most 50000000"):
        decode_image(png(20_000, 20_000))
    with pytest.raises(TooLargeError, match="10000 x 9000 = 90000000"):
        decode_image(np.broadcast_to(np.uint8(0), (9000, 10000)))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 2**20


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_limits_of_pixels_and_bytes(format_: str) -> None:
    data = encoded(quadrants(), format_)
    assert decode_image(data, limits=ImageLimits(max_pixels=48 * 32, max_bytes=len(data))).width == 48
    with pytest.raises(TooLargeError, match="48 x 32 = 1536 pixels; at most 1535"):
        decode_image(data, limits=ImageLimits(max_pixels=1535))
    for source in (data, io.BytesIO(data)):
        with pytest.raises(TooLargeError, match="bytes"):
            decode_image(source, limits=ImageLimits(max_bytes=len(data) - 1))


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(TooLargeError, match="1099511627776 bytes"):
        decode_image(path)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_compressed_metadata_bombs(kind: bytes) -> None:
    packed = zlib.compress(b"\0" * 30_000_000, 9)
    head = b"a\0\x01\0\0\0" if kind == b"iTXt" else b"a\0\0"
    with pytest.raises(TooLargeError, match="metadata"):
        decode_image(png(4, 4, chunk(kind, head + packed)))


@pytest.mark.filterwarnings("ignore")
def test_tiff_tags_that_claim_the_whole_file_again_and_again() -> None:
    """10,000 tags over the same bytes would be more than a gigabyte if each were read."""
    count = 10_000
    size = 8 + 2 + 12 * count + 4 + 10_000
    entries = [struct.pack("<HHLL", 1000 + number, 7, size - 8, 8) for number in range(count)]
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", count) + b"".join(entries)
    data += b"\0" * (size - len(data))
    tracemalloc.start()
    with pytest.raises(UnsupportedMediaError):
        decode_image(data)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 40 * 2**20


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_flipped_bytes_give_a_frame_or_a_named_error(format_: str) -> None:
    rng = np.random.default_rng(5)
    exif = Image.Exif()
    exif[274] = 6
    options: dict[str, Any] = {} if format_ in ("BMP", "GIF") else {"exif": exif}
    data = np.frombuffer(encoded(noise(side=24), format_, **options), np.uint8)
    for _ in range(150):
        hurt = data.copy()
        hurt[rng.integers(0, min(len(hurt), 400), 3)] = rng.integers(0, 256, 3)
        try:
            frame = decode_image(hurt.tobytes(), limits=ImageLimits(max_pixels=10**6))
        except (UnsupportedMediaError, TooLargeError):
            continue
        assert frame.rgb.ndim == 3


def test_the_first_frame_of_an_animation() -> None:
    second = Image.new("RGB", (48, 32), "black")
    for format_ in ("GIF", "PNG", "WEBP"):
        data = encoded(quadrants(), format_, save_all=True, append_images=[second])
        assert decode_image(data).rgb[26, 40].min() > 240


def test_a_picture_of_the_callers_stays_as_it_was() -> None:
    picture = quadrants().convert("RGBA")
    before = picture.tobytes()
    decode_image(picture)
    assert (picture.mode, picture.tobytes()) == ("RGBA", before)


def test_suffixes_are_lower_case_with_a_dot() -> None:
    assert {".jpg", ".png", ".webp", ".tiff"} <= IMAGE_SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)


def test_a_tiff_whose_tiles_are_far_larger_than_the_picture_is_refused_unread() -> None:
    """16 x 16 pixels in one tile of 20,000 x 20,000: 400 MB out of some hundred kB."""
    side, small = 20_000, 16
    packer = zlib.compressobj(9)
    data = b"".join([*(packer.compress(bytes(side)) for _ in range(side)), packer.flush()])
    tags = [(256, small), (257, small), (258, 8), (259, 8), (262, 1), (277, 1), (322, side), (323, side)]
    offset = 8 + 2 + 12 * (len(tags) + 2) + 4
    tags += [(324, offset), (325, len(data))]
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    tiff = b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + struct.pack("<I", 0) + data
    with pytest.raises(UnsupportedMediaError, match="tiles of 20000 x 20000"):
        decode_image(tiff)
