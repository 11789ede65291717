"""Fixtures that several tests share. The model is the embedded nano, loaded once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import streamseg
    from streamseg.client import Client
    from streamseg.engine import Engine
    from streamseg.models.build import LoadedModel
    from streamseg.pipeline import Pipeline
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


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """A blocking client of the server that most tests share."""
    from streamseg.client import Client

    with Client(server.url) as one:
        yield one


@pytest.fixture(scope="module")
def engine(model: LoadedModel) -> Iterator[Engine]:
    from streamseg.engine import Engine

    engine = Engine(model)
    yield engine
    engine.close()


@pytest.fixture
def pipeline(engine: Engine) -> Iterator[Pipeline]:
    from streamseg.pipeline import Pipeline

    pipeline = Pipeline(engine)
    yield pipeline
    pipeline.close()


@pytest.fixture(scope="module")
def face(model: LoadedModel) -> Iterator[streamseg.Model]:
    """The Python face of the embedded model."""
    import streamseg

    with streamseg.Model(model) as face:
        yield face
