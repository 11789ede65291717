"""Fixtures that several tests share. The model is the embedded nano, loaded once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from streamseg.models.build import LoadedModel
    from streamseg.service.server import Server


@pytest.fixture(scope="session")
def model() -> LoadedModel:
    """The embedded model on the CPU."""
    from streamseg.models.build import load_model

    return load_model("nano", device="cpu", warm_up=False)


@pytest.fixture(scope="session")
def server(model: LoadedModel) -> Iterator[Server]:
    """A real server on loopback with the default settings, on a port that the system chose; see its ``url``."""
    from streamseg.service.server import Server
    from streamseg.settings import load_settings

    with Server(load_settings(None, {"host": "127.0.0.1", "port": 0, "token": None}), model) as running:
        yield running
