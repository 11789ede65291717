"""A Firefox, driven over its own WebDriver BiDi: Playwright only drives a Firefox of its own make.

Its pages answer to those names of Playwright's that ``looking`` needs.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
# Generous: the machine may be busy.
PATIENCE_S = 60.0
_LOOK_AGAIN_S = 0.05
_LISTENING = "WebDriver BiDi listening on "
_PREFERENCES = {
    "media.autoplay.default": 0,
    "media.navigator.permission.disabled": True,
    "media.navigator.streams.fake": True,
    "media.peerconnection.ice.loopback": True,
    "media.peerconnection.ice.obfuscate_host_addresses": False,
}
_KEYS = {"Shift": "\ue008"}
_MOUSE = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}}
_KEYBOARD = {"type": "key", "id": "keyboard"}
_BUTTONS = {"left": 0, "middle": 1, "right": 2}


class FirefoxError(Exception):
    """Firefox refused a command, or a page threw an error."""


@contextmanager
def running_firefox(profile: Path) -> Iterator[Firefox]:
    """A browser with an empty folder for its profile; it ends with the ``with`` block."""
    assert FIREFOX is not None
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in _PREFERENCES.items()]
    (profile / "user.js").write_text("".join(lines), "utf-8")
    said = profile / "said.txt"
    with said.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [FIREFOX, "--headless", "--no-remote", "--remote-debugging-port=0", "--profile", str(profile)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        with connect(_address(process, said) + "/session", compression=None, max_size=None) as socket:
            firefox = Firefox(socket)
            yield firefox
            firefox.ask("browser.close")
        process.wait(PATIENCE_S)
    finally:
        process.kill()
        process.wait()


def _address(process: subprocess.Popen[bytes], said: Path) -> str:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        _, found, rest = said.read_text("utf-8").partition(_LISTENING)
        if found and "\n" in rest:
            return rest.split()[0]
        time.sleep(_LOOK_AGAIN_S)
    raise FirefoxError(f"Firefox did not start: {said.read_text('utf-8')}")


class Firefox:
    """A browser that listens."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._pages: dict[str, FirefoxPage] = {}
        self.ask("session.new", capabilities={})
        self.ask("session.subscribe", events=["log.entryAdded"])

    def ask(self, method: str, **params: Any) -> Any:
        """The result of a command; what is said in between goes to the page that said it."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE_S))
            if message["type"] == "event":
                page = self._pages.get(message["params"]["source"].get("context"))
                if page is not None:
                    page.hear(message["params"])
            elif message.get("id") == number:
                if message["type"] == "error":
                    raise FirefoxError(f"{method}: {message['error']}: {message['message']}")
                return message["result"]

    def open(self, url: str, width: int = 1280, height: int = 800, before: str | None = None) -> FirefoxPage:
        """A page with cookies and preferences of its own. ``before``: a function that runs before its scripts do."""
        user = self.ask("browser.createUserContext")["userContext"]
        context = self.ask("browsingContext.create", type="tab", userContext=user)["context"]
        page = self._pages[context] = FirefoxPage(self, context, user)
        self.ask("browsingContext.setViewport", context=context, viewport={"width": width, "height": height})
        if before is not None:
            self.ask("script.addPreloadScript", functionDeclaration=before, userContexts=[user])
        page.goto(url)
        return page


class FirefoxPage:
    """A tab."""

    def __init__(self, browser: Firefox, context: str, user: str) -> None:
        self._browser = browser
        self._context = context
        self._user = user
        self.complaints: list[str] = []
        self.mouse = _Mouse(self._act)
        self.keyboard = _Keyboard(self._act)

    def hear(self, entry: dict[str, Any]) -> None:
        if entry["level"] == "error":
            self.complaints.append(str(entry["text"]))

    def ask(self, method: str, **params: Any) -> Any:
        return self._browser.ask(method, context=self._context, **params)

    def goto(self, url: str) -> None:
        self.ask("browsingContext.navigate", url=url, wait="complete")

    def reload(self) -> None:
        self.ask("browsingContext.reload", wait="complete")

    def close(self) -> None:
        self._browser.ask("browser.removeUserContext", userContext=self._user)

    def _call(self, function: str, argument: Any, **more: Any) -> Any:
        answer = self._browser.ask(
            "script.callFunction",
            functionDeclaration=function,
            arguments=[{"type": "string", "value": json.dumps(argument)}],
            target={"context": self._context},
            awaitPromise=True,
            userActivation=True,
            **more,
        )
        if answer["type"] == "exception":
            raise FirefoxError(answer["exceptionDetails"]["text"])
        return answer["result"]

    def evaluate(self, expression: str, arg: Any = None) -> Any:
        """What a function returns, or the promise that it returns becomes."""
        call = f"async (argument) => JSON.stringify(await ({expression})(JSON.parse(argument)) ?? null)"
        return json.loads(self._call(call, arg)["value"])

    def wait_for_function(self, expression: str, *, arg: Any = None) -> None:
        """Until a function returns something that is true."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.evaluate(f"async (argument) => Boolean(await ({expression})(argument))", arg):
            if time.monotonic() > deadline:
                raise FirefoxError(f"waited {PATIENCE_S:.0f} s for {expression}")
            time.sleep(_LOOK_AGAIN_S)

    def locator(self, selector: str) -> _Element:
        return _Element(self, selector)

    def set_files(self, selector: str, *files: Path) -> None:
        element = self._call("(selector) => document.querySelector(JSON.parse(selector))", selector)
        self.ask("input.setFiles", element={"sharedId": element["sharedId"]}, files=[str(file) for file in files])

    def _act(self, source: dict[str, Any], *actions: dict[str, Any]) -> None:
        self.ask("input.performActions", actions=[{**source, "actions": list(actions)}])


_MIDDLE = """(selector) => {
    const element = document.querySelector(selector);
    if (!element?.checkVisibility()) return null;
    element.scrollIntoView({block: "center"});
    const {left, top, width, height} = element.getBoundingClientRect();
    const middle = [left + width / 2, top + height / 2];
    return element.contains(document.elementFromPoint(...middle)) ? middle : null;
}"""


class _Element:
    def __init__(self, page: FirefoxPage, selector: str) -> None:
        self._page = page
        self._selector = selector

    def evaluate(self, function: str) -> Any:
        return self._page.evaluate(f"(selector) => ({function})(document.querySelector(selector))", self._selector)

    def bounding_box(self) -> dict[str, float] | None:
        found: dict[str, float] | None = self.evaluate(
            """(element) => {
                const {x, y, width, height} = element.getBoundingClientRect();
                return {x, y, width, height};
            }"""
        )
        return found

    def get_attribute(self, name: str) -> str | None:
        value: str | None = self.evaluate(f"(element) => element.getAttribute({json.dumps(name)})")
        return value

    def click(self) -> None:
        """Where its middle is, once it can be seen, nothing is over it and it stays where it is."""
        before = None
        deadline = time.monotonic() + PATIENCE_S
        while True:
            middle = self._page.evaluate(_MIDDLE, self._selector)
            if middle is not None and middle == before:
                return self._page.mouse.click(*middle)
            if time.monotonic() > deadline:
                raise FirefoxError(f"waited {PATIENCE_S:.0f} s to click on {self._selector}")
            before = middle
            time.sleep(_LOOK_AGAIN_S)


class _Mouse:
    def __init__(self, act: Callable[..., None]) -> None:
        self._act = act

    def move(self, x: float, y: float, steps: int = 1) -> None:
        self._act(_MOUSE, {"type": "pointerMove", "x": round(x), "y": round(y), "duration": 20 * (steps - 1)})

    def down(self, button: str = "left") -> None:
        self._act(_MOUSE, {"type": "pointerDown", "button": _BUTTONS[button]})

    def up(self, button: str = "left") -> None:
        self._act(_MOUSE, {"type": "pointerUp", "button": _BUTTONS[button]})

    def click(self, x: float, y: float, button: str = "left") -> None:
        self.move(x, y)
        self.down(button)
        self.up(button)


class _Keyboard:
    def __init__(self, act: Callable[..., None]) -> None:
        self._act = act

    def down(self, key: str) -> None:
        self._act(_KEYBOARD, {"type": "keyDown", "value": _KEYS.get(key, key)})

    def up(self, key: str) -> None:
        self._act(_KEYBOARD, {"type": "keyUp", "value": _KEYS.get(key, key)})

    def press(self, key: str) -> None:
        self.down(key)
        self.up(key)
