"""What the networks of a run start from: published weights, a file, or nothing; decided once and kept in its folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mnas.config import RunConfig
from mnas.data.common import Images
from mnas.errors import BadInput
from mnas.io.checksum import check_sum, write_with_sum
from mnas.io.files import read_json, write_atomic, write_json
from mnas.nn.origin import Origin, read_origin
from mnas.nn.weights import read_weights, weights_file
from mnas.published.catalogue import PublishedWeights, find, supernets_of, weights_of
from mnas.published.fetch import Unreachable, fetch
from mnas.run import Run
from mnas.space import zoo
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace
from mnas.space.zoo import kind_of

log = logging.getLogger("mnas")

LEAST_PIXELS = 64
"""Images of this side and more are photographs, for which published weights are the default."""


def run_origins(
    run: Run, config: RunConfig, space: SearchSpace, data: Images, *, decides: bool
) -> tuple[Origin, ...]:
    """The trained networks from which those of a run start.

    The process that owns the run `decides`, the first time: it copies the files into the run's folder, so that they are
    there for a resume. Raises BadInput where a file does not fit, and where stated weights cannot be had.
    """
    if decides and not run.origins_path.exists():
        _decide(run, config, space, data)
    return kept_origins(run, space)


def kept_origins(run: Run, space: SearchSpace) -> tuple[Origin, ...]:
    """The trained networks in a run's folder from which its networks start."""
    return tuple(_origins(run, space)) if run.origins_path.exists() else ()


def training_origins(
    network: str, arch: Architecture, photographs: bool, *, init: str | None, pretrained: str
) -> tuple[tuple[Origin, ...], dict[str, Any]]:
    """What a single training starts from, and the facts that its card has; `network` is its name, or a file's path.

    Of `photographs` published weights are looked for by default.

    Raises BadInput where a file does not fit, and where stated weights cannot be had.
    """
    facts: dict[str, Any] = {"origins": [], "missing": None}
    if init is not None:
        origin = read_origin(Path(init), arch, init)
        if not origin.fits(arch):
            raise BadInput(f"{init}: its network has another design than {network}")
        return (origin,), facts | {"origins": [{"name": init, "network": network}]}
    if not wants_published(pretrained, photographs):
        return (), facts
    exact, _, _ = network.partition(":")
    try:
        chosen = _chosen(pretrained, [exact] if weights_of(exact) else [exact.partition("@")[0]])
        origins = tuple(
            read_origin(fetch(weights), zoo.load_architecture(weights.network), weights.name, weights.normalisation)
            for weights in chosen
        )
    except Unreachable as error:
        if pretrained != "auto":
            raise
        log.warning("%s; the network starts from fresh weights", error)
        return (), facts | {"missing": str(error)}
    if pretrained not in ("auto", "default") and not origins[0].fits(arch):
        raise BadInput(f"--pretrained {pretrained}: its network has another design than {network}")
    _log_origins(chosen)
    return origins, facts | {"origins": [facts_of(weights) for weights in chosen]}


def origin_facts(run: Run) -> dict[str, Any]:
    """What origins.json says: the `origins`, and why there are none if they were wanted (`missing`)."""
    return read_json(run.origins_path) if run.origins_path.exists() else {"origins": [], "missing": None}


def _decide(run: Run, config: RunConfig, space: SearchSpace, data: Images) -> None:
    missing, origins = None, list[dict[str, Any]]()
    if config.init is not None:
        origins = [_kept(run, Path(config.init), {"name": str(config.init), "network": space.reference})]
    elif not (config.from_scratch or config.shared_supernet) and wants_published(
        config.pretrained, are_photographs(data)
    ):
        try:
            chosen = _chosen(config.pretrained, kind_of(space.reference), space.name)
            origins = [_kept(run, fetch(weights), facts_of(weights)) for weights in chosen]
            _log_origins(chosen)
        except Unreachable as error:
            if config.pretrained != "auto":
                raise
            missing, origins = str(error), []
            log.warning("%s; the networks start from fresh weights", error)
    write_json(run.origins_path, {"origins": origins, "missing": missing})
    try:
        for origin in _origins(run, space):
            stated = config.init is not None or config.pretrained not in ("auto", "default")
            if stated and not origin.fits(next(space.enumerate())):
                raise BadInput(f"{origin.name}: its network has another design than those of space '{space.name}'")
    except BadInput:
        run.origins_path.unlink()
        raise


def pretrained_name(asked: bool | str | None) -> str:
    """The value of `RunConfig.pretrained` for what a caller asks: None for auto, True for the default weights."""
    if isinstance(asked, str):
        return asked
    return "auto" if asked is None else "default" if asked else "none"


def check_start(init: str | None, pretrained: str, reference: str) -> None:
    """Refuse, before any work, weights that cannot be what networks start from. Raises BadInput."""
    if init is not None:
        if pretrained not in ("auto", "none"):
            raise BadInput("--init and --pretrained both name the weights to start from: state one of them")
        read_weights(Path(init))
    elif pretrained not in ("auto", "none", "default"):
        weights = find(pretrained)
        if reference in zoo.names() and weights.network.partition("@")[0] != reference:
            raise BadInput(f"--pretrained {pretrained}: weights of {weights.network}, expected those of {reference}")


def wants_published(pretrained: str, photographs: bool) -> bool:
    """Whether published weights are looked for: as stated, or by default for colour photographs."""
    return photographs if pretrained == "auto" else pretrained != "none"


def are_photographs(data: Images) -> bool:
    """Whether images are in colours and large enough."""
    return data.train.reading.channels == 3 and data.image_size >= LEAST_PIXELS


def _chosen(pretrained: str, networks: Sequence[str], space: str = "") -> list[PublishedWeights]:
    """The weights of that name, or else the supernet of the space, or the first ones of each network."""
    if pretrained not in ("auto", "default"):
        return [find(pretrained)]
    chosen = [*supernets_of(space)] or [weights for name in networks for weights in weights_of(name)[:1]]
    if not chosen and pretrained == "default":
        raise BadInput(f"--pretrained: no published weights of {networks[0]} are known; bring a file: --init FILE")
    return chosen


def _log_origins(chosen: Sequence[PublishedWeights]) -> None:
    for weights in chosen:
        log.info(
            "weights: networks like %s start from %s, trained on %s (licence %s); --no-pretrained starts from fresh "
            "ones", weights.network, weights.name, weights.trained_on, weights.licence,
        )  # fmt: skip


def facts_of(weights: PublishedWeights) -> dict[str, Any]:
    """What a run keeps, and its card says, of published weights."""
    return {
        "name": weights.name, "network": weights.network, "licence": weights.licence,
        "trained_on": weights.trained_on, "top1": weights.top1, "normalisation": weights.normalisation,
    }  # fmt: skip


def _kept(run: Run, path: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a file of weights, with what belongs to it, into the run's folder."""
    file = weights_file(path)
    folder = run.origins / str(len(list(run.origins.glob("*/"))))
    check_sum(file)
    write_with_sum(folder / file.name, file.read_bytes())
    if (beside := file.with_name("architecture.yaml")).exists():  # of a winner's folder
        write_atomic(folder / beside.name, beside.read_bytes())
    return {**facts, "file": f"{folder.name}/{file.name}"}


def _origins(run: Run, space: SearchSpace) -> Iterator[Origin]:
    for facts in origin_facts(run)["origins"]:
        reference = space.published(facts["network"])
        yield read_origin(
            run.origins / facts["file"], reference, facts["name"], facts.get("normalisation", "imagenet")
        )
