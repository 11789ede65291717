"""The known models: config, checkpoint, digest, licence."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from streamseg.errors import ModelUnavailableError

AUTO = "auto"
"""The name that lets `streamseg.models.build.load_model` choose."""

NANO = "nano"
"""The embedded model, whose weights are part of the package."""

AUTO_ON_GPU = "sam2.1-hiera-small"
"""What `auto` takes where there is a GPU: more than live speed on one, close to the larger ones' quality."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model of the catalog.

    ``config``: the config's name, inside the ``sam2`` package's ``configs`` folder; ``nano`` for the embedded model.
    ``repo_id``, ``filename``: the checkpoint on the Hugging Face hub; None where the weights are in the package.
    ``sha256``: hex digest of the checkpoint file; where it is None, the digest that the hub states is trusted.
    ``size_bytes``: of the checkpoint file. ``parameters_m``: millions of parameters, of all parts of the model.
    ``clicks_in_turn``: several clicks at once are better decoded one after the other. ``second_look``: its masks
    gain from another look at a picture, mostly where its input is small beside usual photos.
    """

    name: str
    config: str
    repo_id: str | None
    filename: str | None
    sha256: str | None
    licence: str
    parameters_m: float
    note: str
    size_bytes: int | None = None
    clicks_in_turn: bool = False
    second_look: bool = False

    @property
    def embedded(self) -> bool:
        """Whether the weights are part of the package."""
        return self.repo_id is None


def _sam2(
    generation: str, size: str, config: str, parameters_m: float, size_bytes: int, sha256: str, note: str
) -> ModelSpec:
    return ModelSpec(
        name=f"{generation}-hiera-{size}",
        config=f"{generation}/{generation}_hiera_{config}.yaml",
        repo_id=f"facebook/{generation}-hiera-{size}",
        filename=f"{generation}_hiera_{size.replace('-', '_')}.pt",
        sha256=sha256,
        licence="Apache-2.0",
        parameters_m=parameters_m,
        note=note,
        size_bytes=size_bytes,
    )


MODELS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec(
            name=NANO,
            config="nano",
            repo_id=None,
            filename=None,
            sha256=None,
            licence="LICENSE-WEIGHTS (research-use data)",
            parameters_m=5.8,
            note="in the package, for CPUs; weights trained on research-use data",
            clicks_in_turn=True,
            second_look=True,
        ),
        _sam2(
            "sam2.1",
            "tiny",
            "t",
            39.0,
            156_008_466,
            "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
            "the fastest of SAM 2.1",
        ),
        _sam2(
            "sam2.1",
            "small",
            "s",
            46.1,
            184_416_285,
            "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
            "what auto takes on a GPU",
        ),
        _sam2(
            "sam2.1",
            "base-plus",
            "b+",
            80.9,
            323_606_802,
            "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
            "finer masks at two thirds of small's speed",
        ),
        _sam2(
            "sam2.1",
            "large",
            "l",
            224.4,
            898_083_611,
            "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
            "the best masks, for a large GPU",
        ),
        _sam2(
            "sam2",
            "tiny",
            "t",
            39.0,
            155_906_050,
            "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125",
            "first release; prefer sam2.1",
        ),
        _sam2(
            "sam2",
            "small",
            "s",
            46.0,
            184_309_650,
            "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3",
            "first release; prefer sam2.1",
        ),
        _sam2(
            "sam2",
            "base-plus",
            "b+",
            80.8,
            323_493_298,
            "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071",
            "first release; prefer sam2.1",
        ),
        _sam2(
            "sam2",
            "large",
            "l",
            224.4,
            897_952_466,
            "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b",
            "first release; prefer sam2.1",
        ),
    )
}
"""Every model by its name, the embedded one first."""


def find_model(name: str) -> ModelSpec:
    """The model of that name.

    Args:
        name: a key of `MODELS`; ``auto`` is none, it is resolved by `streamseg.models.build.load_model`.

    Raises:
        ModelUnavailableError: there is no such model; the message lists the names and the closest one.
    """
    spec = MODELS.get(name)
    if spec is not None:
        return spec
    names = (AUTO, *MODELS)
    close = difflib.get_close_matches(name.strip().lower().replace("_", "-").removesuffix(".pt"), names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ModelUnavailableError(f"There is no model {name[:64]!r}.{hint} Known models: {', '.join(names)}.")
