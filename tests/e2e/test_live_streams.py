"""Network cameras and shared streams in the tab Live: a real server, a real browser, a camera that is made here."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator

import pytest
from looking import (
    OpenPage,
    break_websockets,
    click_stage,
    listen,
    wait_for_disc,
    wait_for_frames,
    wait_for_mask_on_disc,
)
from network_camera import NetworkCamera
from playwright.sync_api import Page, expect

from streamseg.models.build import LoadedModel
from streamseg.service.server import Server
from streamseg.settings import load_settings

PANEL = "#panel-live"


@pytest.fixture(scope="module")
def camera() -> Iterator[NetworkCamera]:
    with NetworkCamera() as camera:
        yield camera


@pytest.fixture(scope="module")
def network_server(model: LoadedModel) -> Iterator[Server]:
    """A server that opens addresses of this machine."""
    network = {"enabled": True, "allow": ["127.0.0.1"]}
    with Server(load_settings(None, {"port": 0, "network": network}), model) as server:
        yield server


def enter_address(page: Page, url: str, name: str | None = None) -> None:
    page.get_by_role("button", name="Network camera").click()
    page.get_by_label("Address of the camera").fill(url)
    if name is not None:
        page.get_by_text("Password and sharing").click()
        page.get_by_label("Name, to share it").fill(name)
    page.get_by_role("button", name="Connect").click()


def follow_disc(page: Page) -> None:
    disc = wait_for_disc(page, PANEL)
    click_stage(page, PANEL, disc["x"], disc["y"])
    wait_for_mask_on_disc(page, PANEL)


def stop(page: Page) -> None:
    page.locator(f"{PANEL} [data-part=stop]").click()


def test_an_object_in_the_picture_of_a_network_camera_is_followed(
    open_page: OpenPage, network_server: Server, camera: NetworkCamera
) -> None:
    page = open_page(url=network_server.url)
    enter_address(page, camera.url)
    expect(page.locator("#connection")).to_have_text("Live")
    expect(page.locator(f"{PANEL} .stream-title")).to_have_text(f"127.0.0.1:{camera.port}")
    follow_disc(page)
    expect(page.locator(f"{PANEL} .object")).to_have_attribute("data-state", "tracked")
    wait_for_frames(page, PANEL, 20)
    seen = wait_for_mask_on_disc(page, PANEL)
    assert seen["inCorner"] == 0
    page.locator(PANEL).get_by_text("Spotlight").click()
    page.wait_for_function(
        """(panel) => {
            const overlay = document.querySelector(`${panel} .overlay`);
            const {data} = overlay.getContext("2d").getImageData(4, overlay.height - 4, 1, 1);
            return data[3] > 100;
        }""",
        arg=PANEL,
    )
    page.locator(PANEL).get_by_text("Overlay", exact=True).click()
    with page.expect_download() as snapshot:
        page.get_by_role("button", name="Snapshot").click()
    assert snapshot.value.suggested_filename.endswith(".png")
    page.keyboard.press("r")
    expect(page.locator(f"{PANEL} [data-part=recording-time]")).not_to_have_text("0:00")
    page.keyboard.press("r")
    expect(page.get_by_text("Recording ready")).to_be_visible()


def test_what_is_known_of_speed_is_called_what_it_is(
    open_page: OpenPage, network_server: Server, camera: NetworkCamera
) -> None:
    page = open_page(url=network_server.url)
    enter_address(page, camera.url)
    follow_disc(page)
    speed = page.get_by_role("region", name="Speed")
    expect(speed.get_by_text("Time on the server", exact=True)).to_be_visible()
    expect(speed.locator("[data-part=delay]")).to_contain_text("ms")
    speed.get_by_text("Where the time goes").click()
    expect(speed.get_by_text("Model", exact=True)).to_be_visible()
    for absent in ("Waiting its turn, network, page", "Transport", "Sent per second"):
        expect(speed.get_by_text(absent)).to_be_hidden()
    stop(page)
    page.get_by_role("button", name="Use the camera").click()
    wait_for_disc(page, PANEL)
    expect(speed.get_by_text("Delay", exact=True)).to_be_visible()
    expect(speed.get_by_text("Transport")).to_be_visible()


def test_clicks_are_taken_back_and_objects_deleted(
    open_page: OpenPage, network_server: Server, camera: NetworkCamera
) -> None:
    page = open_page(url=network_server.url)
    said = listen(page)
    enter_address(page, camera.url)
    follow_disc(page)
    page.keyboard.press("Control+z")
    expect(page.locator(f"{PANEL} .object")).to_have_count(0)
    wait_for_frames(page, PANEL, 10)
    expect(page.locator(f"{PANEL} .object")).to_have_count(0)
    assert wait_for_disc(page, PANEL)["onDisc"] == 0
    follow_disc(page)
    page.get_by_role("button", name="Delete Object 2").click()
    wait_for_frames(page, PANEL, 10)
    expect(page.locator(f"{PANEL} .object")).to_have_count(0)
    assert [one["type"] for one in said] == ["start", "prompt", "undo", "prompt", "remove"]
    assert all(isinstance(one["frame"], int) for one in said if one["type"] == "prompt")


def test_two_pages_share_a_stream_and_its_objects(
    open_page: OpenPage, network_server: Server, camera: NetworkCamera
) -> None:
    first = open_page(url=network_server.url)
    enter_address(first, camera.url, "door")
    follow_disc(first)
    expect(first.get_by_role("switch", name="Follow")).to_be_enabled()

    second = open_page(url=network_server.url)
    listed = second.get_by_role("button", name="door")
    expect(listed).to_have_text("door live · 1 looking")
    listed.press("Enter")
    wait_for_mask_on_disc(second, PANEL)
    expect(second.get_by_role("application", name="door. Live picture")).to_be_focused()
    expect(second.locator(f"{PANEL} .object-name")).to_have_text("Object 1")
    follow = second.get_by_role("switch", name="Follow")
    expect(follow).to_be_disabled()
    expect(follow).to_be_checked()

    # What one makes the other sees, with a number of its own.
    click_stage(second, PANEL, 0.05, 0.05)
    for page in (first, second):
        expect(page.locator(f"{PANEL} .object-name")).to_have_text(["Object 1", "Object 2"])
    # A correction of somebody else's object is taken back without the object.
    second.get_by_role("button", name="Object 1", exact=False).first.click()
    disc = wait_for_disc(second, PANEL)
    click_stage(second, PANEL, disc["x"], disc["y"])
    second.keyboard.press("Control+z")
    wait_for_frames(second, PANEL, 5)
    expect(second.locator(f"{PANEL} .object-name")).to_have_text(["Object 1", "Object 2"])
    second.get_by_role("button", name="Delete Object 1").click()
    for page in (first, second):
        expect(page.locator(f"{PANEL} .object-name")).to_have_text(["Object 2"])

    # The stream goes with whoever opened it.
    stop(first)
    expect(second.locator("#notices")).to_contain_text("door: ")
    expect(second.get_by_role("button", name="Use the camera")).to_be_visible()
    expect(second.get_by_role("button", name="door")).to_have_count(0)


def test_the_picture_of_a_chosen_stream_is_in_view(
    open_page: OpenPage, network_server: Server, camera: NetworkCamera
) -> None:
    first = open_page(url=network_server.url)
    enter_address(first, camera.url, "hall")
    wait_for_disc(first, PANEL)
    phone = open_page(url=network_server.url, width=390, height=500)
    # It is below the fold.
    phone.get_by_role("button", name="hall").click()
    wait_for_disc(phone, PANEL)
    expect(phone.locator(f"{PANEL} .stage")).to_be_in_viewport(ratio=0.9)


def test_a_stream_that_is_gone_from_the_list_is_said_so(
    open_page: OpenPage, network_server: Server, camera: NetworkCamera
) -> None:
    first = open_page(url=network_server.url)
    enter_address(first, camera.url, "yard")
    wait_for_disc(first, PANEL)
    second = open_page(url=network_server.url, expected="ERR_FAILED")
    expect(second.get_by_role("button", name="yard")).to_be_visible()
    enter_address(second, camera.url, "yard")
    expect(second.locator("#notices")).to_contain_text("There is a stream yard already")
    second.route("**/v1/streams", lambda route: route.abort())
    stop(first)
    expect(first.get_by_role("button", name="yard")).to_have_count(0)
    second.get_by_role("button", name="yard").click()
    expect(second.locator("#notices")).to_contain_text("There is no stream yard any more")


def test_a_camera_that_is_lost_comes_back_with_its_objects(open_page: OpenPage, network_server: Server) -> None:
    page = open_page(url=network_server.url)
    with NetworkCamera() as camera:
        enter_address(page, camera.url)
        follow_disc(page)
        camera.switch_off()
        expect(page.locator("#connection")).to_have_text("Stream lost, waiting for it …")
        expect(page.locator("#notices")).to_contain_text("No new pictures: ")
        expect(page.get_by_text("No new pictures. Waiting for them …")).to_be_visible()
        camera.switch_on()
        expect(page.locator("#connection")).to_have_text("Live")
        expect(page.locator("#notices")).not_to_contain_text("No new pictures: ")
        wait_for_frames(page, PANEL, 5)
        wait_for_mask_on_disc(page, PANEL)
        expect(page.locator(f"{PANEL} .object")).to_have_count(1)


def test_a_stream_without_a_picture_takes_no_clicks_and_waits(open_page: OpenPage, model: LoadedModel) -> None:
    """Whoever comes while the camera is away sees that, and the picture when it is back."""
    with NetworkCamera() as gate:
        settings = load_settings(None, {"port": 0, "streams": {"cameras": {"gate": gate.url}}})
        with Server(settings, model) as server:
            first = open_page(url=server.url)
            listed = first.get_by_role("button", name="gate")
            expect(listed).to_have_text("gate opens when somebody looks")
            listed.click()
            follow_disc(first)
            gate.switch_off()
            expect(first.locator("#connection")).to_have_text("Stream lost, waiting for it …")
            second = open_page(url=server.url)
            expect(second.get_by_role("button", name="gate")).to_have_text("gate no picture now · 1 looking")
            second.get_by_role("button", name="gate").click()
            expect(second.get_by_text("No new pictures. Waiting for them …")).to_be_visible()
            click_stage(second, PANEL, 0.5, 0.5)
            expect(second.locator("#notices")).to_contain_text("There is no picture yet")
            gate.switch_on()
            wait_for_mask_on_disc(second, PANEL)
            expect(second.locator(f"{PANEL} .object-name")).to_have_text("Object 1")
            first.close()
            second.close()


def test_a_stream_of_the_page_is_opened_anew_in_another_mode(
    open_page: OpenPage, network_server: Server, camera: NetworkCamera
) -> None:
    page = open_page(url=network_server.url)
    said = listen(page)
    enter_address(page, camera.url, "hall")
    follow_disc(page)
    page.get_by_role("switch", name="Follow").press("Space")
    expect(page.locator("#notices")).to_contain_text("The stream was opened anew")
    expect(page.locator(f"{PANEL} .object")).to_have_count(0)
    expect(page.locator("#connection")).to_have_text("Live")
    follow_disc(page)
    starts = [one for one in said if one["type"] == "start"]
    assert {one["name"] for one in starts} == {"hall"}
    assert (starts[0]["mode"], starts[-1]["mode"]) == ("track", "image")


def test_a_stream_goes_on_after_its_websocket_broke(
    open_page: OpenPage, network_server: Server, camera: NetworkCamera
) -> None:
    page = open_page(url=network_server.url)
    said = listen(page)
    enter_address(page, camera.url, "gate")
    follow_disc(page)
    with page.expect_websocket():
        break_websockets(network_server)
    expect(page.locator("#connection")).to_have_text("Live")
    wait_for_frames(page, PANEL, 5)
    wait_for_mask_on_disc(page, PANEL)
    assert page.locator("#notices").inner_text() == ""
    assert [message["type"] for message in said] == ["start", "prompt", "resume"]
    page.keyboard.press("Control+z")
    expect(page.locator(f"{PANEL} .object")).to_have_count(0)


def test_a_stream_comes_back_after_the_server_was_restarted(
    open_page: OpenPage, model: LoadedModel, camera: NetworkCamera
) -> None:
    network = {"enabled": True, "allow": ["127.0.0.1"]}
    first = Server(load_settings(None, {"port": 0, "network": network}), model)
    first.start()
    page = open_page(url=first.url, expected="")
    enter_address(page, camera.url)
    follow_disc(page)
    first.stop()
    # The second is said once a new connection was tried in vain.
    expect(page.locator("#notices")).to_contain_text(re.compile("Connection lost|server does not answer"))
    with Server(load_settings(None, {"port": first.port, "network": network}), model):
        expect(page.locator("#connection")).to_have_text("Live")
        expect(page.locator("#notices")).to_contain_text("The stream was opened anew")
        follow_disc(page)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://127.0.0.2/video", "This server does not open that address: 127.0.0.2:80 may not be opened"),
        ("camera", "This is no address; one begins with rtsp://"),
        ("http://127.0.0.1:9/video", "No picture comes from there"),
    ],
    ids=["refused", "no address", "no answer"],
)
def test_an_address_that_does_not_work_is_said_in_words(
    open_page: OpenPage, network_server: Server, address: str, words: str
) -> None:
    page = open_page(url=network_server.url)
    enter_address(page, address)
    expect(page.locator("#notices")).to_contain_text(words)
    field = page.get_by_label("Address of the camera")
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_value(address)
    expect(page.get_by_role("button", name="Connect")).to_be_enabled()


def test_a_path_that_the_camera_does_not_have_is_said_in_words(
    open_page: OpenPage, network_server: Server, camera: NetworkCamera
) -> None:
    page = open_page(url=network_server.url)
    enter_address(page, camera.url.replace("/video", "/other"))
    expect(page.locator("#notices")).to_contain_text("has no stream at that address")


def test_a_password_is_asked_for_used_and_nowhere_to_be_seen(open_page: OpenPage, network_server: Server) -> None:
    page = open_page(url=network_server.url)
    with NetworkCamera("admin:p@ss/word") as camera:
        enter_address(page, camera.url)
        expect(page.locator("#notices")).to_contain_text("The camera does not accept that user and password")
        field = page.get_by_label("Address of the camera")
        field.fill(camera.url.replace("//", "//admin:p%40ss%2Fword@"))
        field.press("Enter")
        wait_for_disc(page, PANEL)
        stop(page)
        expect(field).to_have_value(camera.url)
        expect(page.get_by_label("Password")).to_have_value("p@ss/word")
        expect(page.get_by_label("Password")).to_have_attribute("type", "password")
        stored = json.dumps(page.evaluate("({...localStorage, ...sessionStorage})"))
        assert camera.url in stored
        assert "p@ss" not in stored
        assert "p%40ss" not in stored


def test_a_password_is_not_kept_for_another_host(open_page: OpenPage, network_server: Server) -> None:
    page = open_page(url=network_server.url)
    page.get_by_role("button", name="Network camera").click()
    address, user, password = (page.get_by_label(name) for name in ("Address of the camera", "User", "Password"))
    address.fill("rtsp://admin:secret@10.0.0.7/one")
    address.blur()
    expect(user).to_have_value("admin")
    expect(password).to_have_value("secret")
    address.fill("rtsp://10.0.0.7/two")
    address.blur()
    expect(password).to_have_value("secret")
    address.fill("rtsp://10.0.0.8/two")
    address.blur()
    expect(user).to_have_value("")
    expect(password).to_have_value("")


def test_waiting_for_a_camera_can_be_given_up(open_page: OpenPage, network_server: Server) -> None:
    page = open_page(url=network_server.url)
    with socket.socket() as silent:
        # Takes connections and says nothing.
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        enter_address(page, f"http://127.0.0.1:{silent.getsockname()[1]}/video")
        expect(page.get_by_text("Connecting to 127.0.0.1")).to_be_visible()
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_text("Connecting to 127.0.0.1")).to_be_hidden()
        expect(page.get_by_label("Address of the camera")).to_be_focused()
        page.get_by_role("button", name="Use the camera").click()
        wait_for_disc(page, PANEL)


def test_a_server_that_opens_no_addresses_offers_none(open_page: OpenPage) -> None:
    page = open_page()
    expect(page.get_by_role("button", name="Use the sample clip")).to_be_visible()
    expect(page.get_by_role("button", name="Network camera")).to_be_hidden()
