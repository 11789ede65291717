"""Effects, snapshots, recordings and the list of objects on the tab Live, in a real browser."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import av
import numpy as np
import pytest
from looking import OpenPage, click_stage, wait_for_disc, wait_for_frames, wait_for_mask_on_disc
from media_made import disc_picture
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Locator, Page, expect

PANEL = "#panel-live"

# What a person sees at the disc and in the lower left corner: the layer over the picture, both of the same moment.
_SEEN = """(panel) => {
    const [picture, layer] = ["picture", "overlay"].map((name) => document.querySelector(`${panel} .${name}`));
    const {width, height} = picture;
    const {data} = picture.getContext("2d").getImageData(0, 0, width, height);
    let count = 0, sumX = 0, sumY = 0;
    for (let y = 0; y < height; y += 2) for (let x = 0; x < width; x += 2) {
        const at = 4 * (y * width + x);
        if (data[at] > 170 && data[at + 2] < 90) { count++; sumX += x; sumY += y; }
    }
    if (!count) return null;
    const sum = document.createElement("canvas");
    Object.assign(sum, {width, height});
    const context = sum.getContext("2d");
    for (const canvas of [picture, layer]) context.drawImage(canvas, 0, 0, width, height);
    const at = (x, y) => [...context.getImageData(Math.round(x), Math.round(y), 1, 1).data].slice(0, 3);
    return [at(sumX / count, sumY / count), at(0.02 * width, 0.98 * height)];
}"""


def seen(page: Page) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """RGB of the disc's centre and of the background."""
    disc, corner = page.evaluate(_SEEN, PANEL)
    return np.array(disc), np.array(corner)


def is_orange(rgb: NDArray[np.int_]) -> bool:
    return bool(rgb[0] > 200 and 90 < rgb[1] < 190 and rgb[2] < 80)


def follow_disc(page: Page) -> None:
    page.get_by_role("button", name="Use the camera").click()
    disc = wait_for_disc(page, PANEL)
    click_stage(page, PANEL, disc["x"], disc["y"])
    wait_for_mask_on_disc(page, PANEL)
    # A pointer over the picture lets it shine through.
    page.mouse.move(2, 2)


def choose(page: Page, effect: str) -> Locator:
    radio = page.locator(PANEL).get_by_role("radio", name=effect)
    radio.focus()
    page.keyboard.press("Space")
    expect(radio).to_be_checked()
    wait_for_frames(page, PANEL, 2)
    return radio


def test_effects_change_the_background_and_leave_the_object_its_own_colour(open_page: OpenPage) -> None:
    page = open_page()
    follow_disc(page)
    tinted, untouched = seen(page)
    assert not is_orange(tinted)
    assert untouched.max() - untouched.min() > 25

    choose(page, "Grey")
    disc, background = seen(page)
    assert is_orange(disc)
    assert background.max() - background.min() <= 3
    assert background.mean() > 40

    choose(page, "Colour")
    page.get_by_role("button", name="Yellow").click()
    wait_for_frames(page, PANEL, 1)
    disc, background = seen(page)
    assert is_orange(disc)
    assert np.abs(background - (0xF2, 0xB7, 0x05)).max() <= 3

    choose(page, "Spotlight")
    disc, background = seen(page)
    assert is_orange(disc)
    assert background.max() < 0.5 * untouched.max()

    choose(page, "Picture")
    green = io.BytesIO()
    Image.new("RGB", (60, 90), (20, 160, 40)).save(green, "PNG")
    chooser = page.locator(f"{PANEL} [data-part=effect-file]")
    chooser.set_input_files({"name": "green.png", "mimeType": "image/png", "buffer": green.getvalue()})
    wait_for_frames(page, PANEL, 2)
    disc, background = seen(page)
    assert is_orange(disc)
    assert np.abs(background - (20, 160, 40)).max() <= 3


def test_the_blurred_background_has_no_detail_left(open_page: OpenPage) -> None:
    page = open_page("/#tab=image")
    panel = "#panel-image"
    stripes = disc_picture(640, 480, 320, 240, 90)
    stripes[:, :200:8] = 255
    file = io.BytesIO()
    Image.fromarray(stripes).save(file, "PNG")
    page.locator(f"{panel} [data-part=file]").set_input_files(
        {"name": "stripes.png", "mimeType": "image/png", "buffer": file.getvalue()}
    )
    expect(page.get_by_text("Click the object you want")).to_be_visible()
    wait_for_disc(page, panel)
    click_stage(page, panel, 0.5, 0.5)
    wait_for_mask_on_disc(page, panel)
    page.locator(panel).get_by_role("radio", name="Blur").check(force=True)
    row = """([panel, name]) => {
        const canvas = document.querySelector(`${panel} .${name}`);
        const {width, height} = canvas;
        const {data} = canvas.getContext("2d").getImageData(0, Math.round(height / 2), Math.round(width / 4), 1);
        return [...data].filter((_, at) => at % 4 === 1);
    }"""
    # The next display frame draws it.
    drawn = """(panel) => {
        const canvas = document.querySelector(`${panel} .overlay`);
        return canvas.getContext("2d").getImageData(0, Math.round(canvas.height / 2), 1, 1).data[3] > 0;
    }"""
    page.wait_for_function(drawn, arg=panel)
    sharp = np.array(page.evaluate(row, [panel, "picture"]))
    soft = np.array(page.evaluate(row, [panel, "overlay"]))
    assert np.abs(np.diff(sharp)).max() > 80
    assert np.abs(np.diff(soft)).max() < 12
    assert soft.min() > 20


def test_the_effect_is_remembered_and_chosen_by_its_key(open_page: OpenPage) -> None:
    page = open_page()
    follow_disc(page)
    page.keyboard.press("e")
    radio = page.locator(PANEL).get_by_role("radio", name="Outline")
    expect(radio).to_be_checked()
    page.reload()
    expect(page.locator(f"{PANEL} input[value=outline]")).to_be_checked()


def test_a_snapshot_of_a_cut_out_is_transparent_around_the_object(open_page: OpenPage) -> None:
    page = open_page()
    follow_disc(page)
    choose(page, "Cut-out")
    with page.expect_download() as started:
        page.locator(PANEL).get_by_role("button", name="Snapshot").click()
    assert started.value.suggested_filename.endswith(".png")
    picture = np.asarray(Image.open(Path(started.value.path())))
    assert picture.shape == (360, 480, 4)
    inside = picture[..., 3] == 255
    assert 0.03 < inside.mean() < 0.25
    assert is_orange(np.median(picture[inside][:, :3], axis=0))
    assert (picture[..., 3] == 0).mean() > 0.7


def test_a_recording_shows_what_was_seen(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    follow_disc(page)
    choose(page, "Colour")
    page.get_by_role("button", name="White").click()
    panel = page.locator(PANEL)
    sign = panel.get_by_text("Recording", exact=True)
    expect(sign).to_be_hidden()
    panel.get_by_role("button", name="Record", exact=True).click()
    expect(sign).to_be_visible()
    expect(panel.locator("[data-part=recording-time]")).to_have_text("0:02")
    expect(panel.get_by_text("Stop recording")).to_be_visible()
    panel.get_by_role("button", name="Stop recording").click()
    expect(sign).to_be_hidden()
    expect(panel.get_by_text("Recording ready")).to_be_visible()
    with page.expect_download() as started:
        panel.get_by_role("button", name="Download").click()
    path = tmp_path / started.value.suggested_filename
    started.value.save_as(path)
    with av.open(path) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) >= 4
    for frame in frames[1:]:
        height, width, _ = frame.shape
        assert frame[height - 8, 8].min() > 225
        orange = (frame[..., 0] > 170) & (frame[..., 2] < 110)
        assert orange.mean() > 0.02
        assert width == 480
    panel.get_by_role("button", name="Discard").click()
    expect(panel.get_by_text("Recording ready")).to_be_hidden()


# A picture full of detail that changes once, as where masks come rarely; what is recorded of it, and what it was.
_RECORD = """async () => {
    const {Recorder, recordingKind} = await import("/js/recorder.js");
    const canvas = document.createElement("canvas");
    Object.assign(canvas, {width: 480, height: 270});
    const context = canvas.getContext("2d");
    const draw = (seed) => {
        for (let y = 0; y < 270; y += 6) for (let x = 0; x < 480; x += 6) {
            context.fillStyle = `hsl(${(x * seed + y * 5) % 360} 60% ${30 + (x * y * seed) % 41}%)`;
            context.fillRect(x, y, 6, 6);
        }
    };
    draw(7);
    const recording = await new Promise((resolve) => {
        const recorder = new Recorder(canvas, recordingKind(), resolve);
        setTimeout(() => draw(11), 1000);
        setTimeout(() => recorder.stop(), 4000);
    });
    const read = (blob) => new Promise((resolve) => {
        const reader = new FileReader();
        reader.onload = () => resolve(reader.result.split(",")[1]);
        reader.readAsDataURL(blob);
    });
    const png = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    return [await read(recording.file), await read(png)];
}"""


def test_a_recording_is_sharp_however_rarely_the_picture_changes(open_page: OpenPage) -> None:
    page = open_page()
    film, picture = (io.BytesIO(base64.b64decode(one)) for one in page.evaluate(_RECORD))
    with av.open(film) as container:
        frames = list(container.decode(video=0))
    assert len(frames) >= 12
    wanted = np.asarray(Image.open(picture).convert("L"), np.float32)
    # Brightness: colours have half the resolution in any such film.
    error = np.abs(np.asarray(frames[-1].to_image().convert("L"), np.float32) - wanted)
    assert error.mean() < 6, error.mean()


def test_an_object_is_renamed_hidden_and_shown(open_page: OpenPage) -> None:
    page = open_page()
    follow_disc(page)
    panel = page.locator(PANEL)
    expect(panel.locator("[data-part=announcements]")).to_have_text("Object 1 found.")
    panel.get_by_role("button", name="Rename Object 1").click()
    field = panel.get_by_role("textbox", name="Name of Object 1")
    expect(field).to_be_focused()
    field.fill("Orange disc")
    field.press("Enter")
    expect(panel.get_by_role("button", name="Delete Orange disc")).to_be_visible()
    panel.get_by_role("button", name="Hide Orange disc").click()
    expect(panel.locator(".object-state")).to_have_text("hidden")
    wait_for_frames(page, PANEL, 2)
    assert is_orange(seen(page)[0])
    panel.get_by_role("button", name="Hide Orange disc").click()
    wait_for_mask_on_disc(page, PANEL)
    # Escape in the field keeps the name.
    row = panel.locator(".object-select")
    row.press("F2")
    panel.get_by_role("textbox").fill("Something else")
    panel.get_by_role("textbox").press("Escape")
    expect(row).to_contain_text("Orange disc")
    row.press("F2")
    panel.get_by_role("textbox").fill("A very long name of an object, all of it")
    panel.get_by_role("textbox").press("Enter")
    expect(row).to_have_attribute("title", "A very long name of an object, all of it")


def test_the_smooth_picture_has_all_of_the_camera_and_keeps_its_masks(open_page: OpenPage) -> None:
    page = open_page()
    follow_disc(page)
    page.get_by_role("switch", name="Smooth picture").press("Space")
    wait_for_frames(page, PANEL, 3)
    wait_for_mask_on_disc(page, PANEL)
    # How many pictures come from the camera itself, and not from the frames that wait for their masks.
    drawn = page.evaluate(
        """async (panel) => {
            const context = document.querySelector(`${panel} .picture`).getContext("2d");
            const {drawImage} = context;
            let drawn = 0;
            context.drawImage = function (source, ...rest) {
                if (source instanceof HTMLVideoElement) drawn++;
                return drawImage.call(this, source, ...rest);
            };
            await new Promise((done) => setTimeout(done, 2000));
            delete context.drawImage;
            return drawn;
        }""",
        PANEL,
    )
    assert drawn >= 8


def test_first_steps_are_shown_until_they_are_dismissed(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_role("button", name="Use the sample clip").click()
    hint = page.get_by_role("region", name="First steps")
    expect(hint).to_be_visible()
    hint.get_by_role("button", name="Got it").click()
    expect(hint).to_have_count(0)
    page.reload()
    page.get_by_role("button", name="Use the sample clip").click()
    expect(page.locator(f"{PANEL} .stage")).to_be_visible()
    expect(hint).to_have_count(0)


def test_the_keys_are_listed_and_single_letters_can_be_switched_off(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_role("button", name="Use the sample clip").click()
    expect(page.locator(f"{PANEL} .stage")).to_be_visible()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard and mouse")
    expect(dialog).to_be_visible()
    dialog.get_by_role("switch").press("Space")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.locator(f"{PANEL} .stage").press("e")
    expect(page.locator(f"{PANEL} input[value=overlay]")).to_be_checked()
    page.get_by_role("button", name="Keyboard and mouse").click()
    expect(dialog.get_by_text("Long press, or Exclude and tap")).to_be_hidden()
    dialog.get_by_role("switch").press("Space")
    dialog.get_by_role("button", name="Close").click()
    page.locator(f"{PANEL} .stage").press("e")
    expect(page.locator(f"{PANEL} input[value=outline]")).to_be_checked()


def test_a_phone_is_told_about_touch(open_page: OpenPage) -> None:
    page = open_page(width=390, height=800, touch=True)
    page.get_by_role("button", name="Touch").tap()
    dialog = page.get_by_role("dialog", name="Touch")
    expect(dialog.get_by_text("Long press, or Exclude and tap")).to_be_visible()
    expect(dialog.get_by_role("switch")).to_be_hidden()
    dialog.get_by_role("button", name="Close").tap()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard and mouse").get_by_role("switch")).to_be_visible()


def test_no_word_is_wider_than_its_button(open_page: OpenPage) -> None:
    page = open_page(width=1400)
    page.get_by_role("button", name="Use the sample clip").click()
    labels = page.locator(f"{PANEL} .effect-list label")
    expect(labels.first).to_be_visible()
    overrun = """(labels) => labels.filter((label) => label.scrollWidth > label.clientWidth).length"""
    assert labels.count() == 8
    assert labels.evaluate_all(overrun) == 0


def test_the_card_says_where_the_time_goes(open_page: OpenPage) -> None:
    page = open_page()
    follow_disc(page)
    card = page.get_by_role("region", name="Speed")
    card.get_by_text("Where the time goes").click()
    expect(card.locator("[data-part=slow-delay]")).to_contain_text("ms")
    expect(card.locator("[data-part=camera-fps]")).not_to_have_text("–")
    expect(card.get_by_text("Model", exact=True)).to_be_visible()
    expect(card.locator("[data-part=stage-ms]").first).to_contain_text("ms")


@pytest.mark.parametrize(
    ("name", "message", "words"),
    [
        ("NotAllowedError", "Permission denied", "The camera is blocked"),
        ("NotAllowedError", "Permission denied by system", "privacy settings"),
        ("NotFoundError", "", "No camera was found"),
        ("NotReadableError", "", "in use by another program"),
    ],
)
def test_every_way_in_which_a_camera_fails_has_its_words(
    open_page: OpenPage, name: str, message: str, words: str
) -> None:
    page = open_page()
    page.evaluate(
        """([message, name]) => {
            navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException(message, name));
        }""",
        [message, name],
    )
    page.get_by_role("button", name="Use the camera").click()
    expect(page.locator("#notices")).to_contain_text(words)
