from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from streamseg.models import listing
from streamseg.models.catalog import MODELS
from streamseg.models.listing import describe_models

TINY = "sam2.1-hiera-tiny"
WEIGHTS_PATH = Path(listing.__file__).parent / "nano/weights/nano.safetensors"


def test_the_table_of_models_says_what_is_cached(tmp_path: Path) -> None:
    rows = {row.name: row for row in describe_models(tmp_path)}
    assert list(rows) == list(MODELS)
    assert [name for name, row in rows.items() if row.cached] == ["nano"]
    assert rows["nano"].size_mb == pytest.approx(WEIGHTS_PATH.stat().st_size / 1e6)
    assert rows["sam2.1-hiera-large"].size_mb == pytest.approx(898.083611)
    repository = tmp_path / "models--facebook--sam2.1-hiera-tiny"
    (repository / "snapshots/abc").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("abc")
    (repository / "snapshots/abc/sam2.1_hiera_tiny.pt").write_bytes(b"x")
    assert [row.name for row in describe_models(tmp_path) if row.cached] == ["nano", TINY]


def test_the_table_needs_no_torch() -> None:
    code = "import sys; from streamseg.models.listing import describe_models; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
