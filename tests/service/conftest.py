"""A real server on loopback with the embedded model, loaded once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from wire_client import settings_for_tests

from streamseg.models.build import LoadedModel
from streamseg.service.server import Server


@pytest.fixture(scope="session")
def server(model: LoadedModel) -> Iterator[Server]:
    """The server that most tests share, with the default settings."""
    with Server(settings_for_tests(), model) as running:
        yield running


@pytest.fixture
def make_server(model: LoadedModel) -> Iterator[Callable[..., Server]]:
    """Servers with settings of their own, ended with the test."""
    with contextlib.ExitStack() as stack:

        def make(limits: dict[str, Any] | None = None, **fields: Any) -> Server:
            return stack.enter_context(Server(settings_for_tests(limits, **fields), model))

        yield make
