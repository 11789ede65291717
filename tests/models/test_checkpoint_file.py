from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from streamseg.errors import BadCheckpointError
from streamseg.models.checkpoint_file import load_state, read_checkpoint, recognise

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.zeros(2)}


class Bomb:
    """Pickled, this creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def assert_same(state: dict[str, torch.Tensor]) -> None:
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize("content", [STATE, {"model": STATE}, {"state_dict": STATE, "epoch": 3}])
@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_are_read_bare_and_wrapped(tmp_path: Path, content: dict, zipped: bool) -> None:
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    assert_same(read_checkpoint(tmp_path / "a.pt"))


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_safetensors_are_known_by_their_content(tmp_path: Path, name: str) -> None:
    save_file(STATE, tmp_path / name)
    assert_same(read_checkpoint(tmp_path / name))


def test_a_missing_file_and_a_folder_are_named_errors(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpointError, match=r"'none\.pt' does not exist"):
        read_checkpoint(tmp_path / "none.pt")
    with pytest.raises(BadCheckpointError, match="is a folder"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull"),
        (b"<!doctype html><title>404</title>", "is no checkpoint"),
        (b"\xff\xd8\xff\xe0 a picture", "is no checkpoint"),
        (b"PK\x03\x04 cut", "damaged or cut short"),
        (b"\x10\0\0\0\0\0\0\0{ no json", "damaged or cut short"),
        (b"\x80\x02 no pickle", "a damaged checkpoint or a pickle of something else"),
    ],
)
def test_what_is_no_checkpoint_says_so(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(BadCheckpointError, match=says) as caught:
        read_checkpoint(tmp_path / "a.pt")
    assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.99])
@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_a_truncated_file_is_a_named_error(tmp_path: Path, name: str, kept: float) -> None:
    state = {"weight": torch.rand(100, 100)}
    if name == "a.pt":
        torch.save(state, tmp_path / name)
    else:
        save_file(state, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(BadCheckpointError, match="damaged or cut short"):
        read_checkpoint(tmp_path / name)


@pytest.mark.parametrize("how", ["torch", "old torch", "pickle"])
def test_pickled_code_is_refused_and_not_run(tmp_path: Path, how: str) -> None:
    bomb = {"model": {**STATE, "bomb": Bomb(tmp_path / "exploded")}}
    if how == "pickle":
        (tmp_path / "a.pt").write_bytes(pickle.dumps(bomb))
    else:
        torch.save(bomb, tmp_path / "a.pt", _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(BadCheckpointError, match=r"pickled code|pickle of something else.*refused"):
        read_checkpoint(tmp_path / "a.pt")
    assert not (tmp_path / "exploded").exists()


def test_a_whole_pickled_module_is_refused_with_advice(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(BadCheckpointError, match=r"pickled code.*\.safetensors"):
        read_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("content", [[1, 2], {"weight": 3}, {}, {"model": {}}, torch.zeros(3), {1: torch.zeros(1)}])
def test_a_torch_file_without_a_state_dict_is_a_named_error(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(BadCheckpointError, match="no state dict"):
        read_checkpoint(tmp_path / "a.pt")


def test_a_zip_that_is_no_torch_file_is_a_named_error(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(BadCheckpointError, match="damaged"):
        read_checkpoint(tmp_path / "a.pt")


def test_a_misfit_names_file_config_and_the_first_keys_and_changes_nothing() -> None:
    model = nn.Linear(3, 4)
    before = model.weight.clone()
    state = {"weight": torch.zeros(2, 3), **{f"extra{i}": torch.zeros(1) for i in range(5)}}
    with pytest.raises(BadCheckpointError) as caught:
        load_state(model, state, file="a.pt", config="sam2/x.yaml", hint="It looks like another.")
    assert caught.value.message == (
        "The checkpoint 'a.pt' does not fit the config 'sam2/x.yaml': 1 missing (bias); "
        "5 unexpected (extra0, extra1, extra2, ...); 1 of another shape (weight is (2, 3), not (4, 3)). "
        "It looks like another."
    )
    assert torch.equal(model.weight, before)


def test_half_precision_weights_are_loaded_into_the_models_own_precision() -> None:
    model = nn.Linear(3, 2)
    load_state(model, {key: value.half() for key, value in STATE.items()}, file="a", config="b")
    assert model.weight.dtype == torch.float32
    assert torch.equal(model.weight, STATE["weight"])


def test_foreign_weights_are_not_recognised() -> None:
    assert recognise(STATE) is None
    assert recognise({"image_encoder.trunk.patch_embed.proj.weight": torch.zeros(7, 3, 7, 7)}) is None
