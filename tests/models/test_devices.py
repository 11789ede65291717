from __future__ import annotations

import pytest
import torch

from streamseg.errors import BadSettingError
from streamseg.models.devices import cuda_available, pick_device, pick_precision, set_threads, usable_cpus

CPU = torch.device("cpu")


def test_auto_takes_the_best_device_of_the_machine() -> None:
    expected = "cuda" if cuda_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert pick_device("auto").type == expected
    assert pick_device("cpu") == CPU


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "meta", "xpu", "cuda:99", "CPU:"])
def test_a_device_that_cannot_be_used_is_a_named_error(name: str) -> None:
    with pytest.raises(BadSettingError, match="cpu"):
        pick_device(name)


def test_precision_is_fp32_on_the_cpu_and_bf16_only_on_request() -> None:
    assert pick_precision("auto", CPU) == "fp32"
    assert pick_precision("fp32", CPU) == "fp32"
    assert pick_precision("bf16", CPU) == "bf16"


def test_bf16_on_mps_and_unknown_precisions_are_named_errors() -> None:
    with pytest.raises(BadSettingError, match="fp32"):
        pick_precision("bf16", torch.device("mps"))
    with pytest.raises(BadSettingError, match="'fp64'"):
        pick_precision("fp64", CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not cuda_available(), reason="needs a CUDA device")
def test_precision_is_bf16_on_a_cuda_device() -> None:
    assert pick_precision("auto", pick_device("cuda")) == "bf16"


def test_threads_are_the_usable_cpus_unless_given() -> None:
    before = torch.get_num_threads()
    try:
        assert set_threads(None, CPU) == torch.get_num_threads() == min(usable_cpus(), 16)
        assert set_threads(1, CPU) == torch.get_num_threads() == 1
        assert set_threads(None, torch.device("cuda")) == 1, "left alone where the CPU does not compute"
    finally:
        torch.set_num_threads(before)
    assert usable_cpus() >= 1


@pytest.mark.parametrize("threads", [0, -1, 5000])
def test_an_impossible_number_of_threads_is_a_named_error(threads: int) -> None:
    with pytest.raises(BadSettingError, match="threads"):
        set_threads(threads, CPU)
