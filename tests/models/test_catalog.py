from __future__ import annotations

import re

import pytest
from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES

from streamseg.errors import ModelUnavailableError
from streamseg.models.catalog import AUTO_ON_GPU, MODELS, NANO, find_model


def test_the_catalog_has_nano_and_the_eight_published_models() -> None:
    sizes = ("tiny", "small", "base-plus", "large")
    assert list(MODELS) == [
        NANO,
        *(f"{generation}-hiera-{size}" for generation in ("sam2.1", "sam2") for size in sizes),
    ]
    assert all(spec.name == name for name, spec in MODELS.items())
    assert AUTO_ON_GPU in MODELS


def test_repositories_files_and_configs_are_those_of_the_sam2_package() -> None:
    ours = {spec.repo_id: (f"configs/{spec.config}", spec.filename) for spec in MODELS.values() if not spec.embedded}
    assert ours == HF_MODEL_ID_TO_FILENAMES


def test_every_published_checkpoint_has_a_digest_of_its_own() -> None:
    digests = [spec.sha256 for spec in MODELS.values() if not spec.embedded]
    assert all(digest is not None and re.fullmatch(r"[0-9a-f]{64}", digest) for digest in digests)
    assert len(set(digests)) == len(digests)


def test_nano_says_what_its_weights_were_trained_on() -> None:
    assert "research-use data" in MODELS[NANO].note
    assert "research-use data" in MODELS[NANO].licence
    assert MODELS[NANO].embedded


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("sam2.1_hiera_tiny", "sam2.1-hiera-tiny"),
        ("sam2.1_hiera_large.pt", "sam2.1-hiera-large"),
        ("Nano", "nano"),
        ("autp", "auto"),
    ],
)
def test_an_unknown_name_is_answered_with_the_closest_and_all_names(wrong: str, meant: str) -> None:
    with pytest.raises(ModelUnavailableError, match=f"Did you mean '{re.escape(meant)}'") as caught:
        find_model(wrong)
    assert all(name in caught.value.message for name in MODELS)


def test_a_name_like_no_other_gets_the_list_alone() -> None:
    with pytest.raises(ModelUnavailableError) as caught:
        find_model("yolo" * 100)
    assert "Did you mean" not in caught.value.message
    assert len(caught.value.message) < 500
