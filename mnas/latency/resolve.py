"""The devices that a winner must suit: options in pairs, and the latency table of each."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from pathlib import Path

from mnas.config import RunConfig, Target
from mnas.errors import BadInput, MissingDependency
from mnas.latency.importers.tables import with_classifiers
from mnas.latency.importers.units import unit_doubt
from mnas.latency.table.cache import table_for
from mnas.latency.table.table import LatencyTable, differences
from mnas.latency.targets import load_table
from mnas.run import Run
from mnas.space.layer import Layer
from mnas.space.space import SearchSpace

log = logging.getLogger("mnas")










# --- tables -----------------------------------------------------------------------------------------------------






def is_elsewhere(table: LatencyTable, target: Target, config: RunConfig, path: Path, resumed: bool = False) -> bool:
    """Whether a table speaks of what cannot be measured here; BadInput where that was not allowed."""
    if table.origin == "imported":
        return True
    try:
        differ = differences(table, runtime=target.runtime, threads=config.threads, batch=config.batch)
    except MissingDependency:
        if config.allow_foreign_table:
            return True
        raise
    measurable = all(one.startswith("runtime version") for one in differ)
    if differ and not config.allow_foreign_table and not (resumed and measurable):
        raise BadInput(
            f"{path}: was not measured here as asked for ({'; '.join(differ)}): state --runtime, --threads and --batch "
            "as the table has them, leave --latency-table out to have a table made here, or give --allow-foreign-table "
            "to search for that device, where the winner cannot be measured from here"
        )
    if differ:
        log.warning("%s: was measured with %s", path, "; ".join(differ))
    return not measurable


def table_of(
    run: Run, space: SearchSpace, config: RunConfig, index: int, num_classes: int, others: Iterable[Layer] = ()
) -> tuple[LatencyTable | None, bool]:
    """The table of a run's target: the run's copy, the one given, or one made here; and whether this machine is meant.

    It has all layers of the space; of `others` those that it happens to have. None where whole networks are timed.
    """
    target, kept = config.targets[index], run.table_path
    if index:
        kept = kept.with_stem(f"{kept.stem}_{index + 1}")
    timed = config.objective.latency == "measured"
    if timed and target.latency_table is None:
        return None, True
    layers = space.layers(num_classes)
    given = kept if kept.exists() else Path(target.latency_table) if target.latency_table else None
    if given is None:
        where, here = f"the latency table of {target.runtime} here", True
        table = table_for(
            space, num_classes, runtime=target.runtime, threads=config.threads, batch=config.batch, seed=config.seed,
            accepted=config.max_table_error,
        )  # fmt: skip
    else:
        where, table = str(given), load_table(given)
        here = not is_elsewhere(table, target, config, given, resumed=given == kept)
        if timed and here:
            return None, True
        own = (table.batch, table.runtime, table.threads)
        doubt = unit_doubt(table.entries, *own) if here and given != kept else None
        if doubt:
            raise BadInput(f"{where}: {doubt[1]} Measure it anew: {_build(table, config, num_classes)} -o NEW.yaml")
        table = _with_classifier(table, where, layers)
    _refuse_incomplete(table, where, space, config, layers, num_classes)
    _refuse_inexact(table, where, space, config, num_classes, here)
    table = table.only(layers | set(others))
    if given != kept:
        table.save(kept)
    return table, here


def _with_classifier(table: LatencyTable, where: str, layers: set[Layer]) -> LatencyTable:
    """An imported table with the classifiers of `layers` that it lacks, scaled from those that it has."""
    if table.origin != "imported":
        return table
    scaled = with_classifiers(table, layers)
    added = [layer for layer in scaled.entries if layer not in table.entries]
    if added:
        log.info(
            "%s: lacks the classifier for %d classes: its latency is scaled from that for other ones", where,
            added[0].out_channels,
        )  # fmt: skip
    return scaled


def _refuse_incomplete(
    table: LatencyTable, where: str, space: SearchSpace, config: RunConfig, layers: set[Layer], num_classes: int
) -> None:
    """BadInput where a table lacks some of `layers`: what, and the command that fills it in."""
    missing = sorted(table.missing(layers), key=str)
    if not missing:
        return
    shown = "; ".join(map(str, missing[:3])) + "; ..." * (len(missing) > 3)
    lacks = f"lacks {len(missing):,} layer{'s' * (len(missing) > 1)}"
    message = f"{where}: {lacks} of space '{space.name}' for {num_classes} classes: {shown}."
    failed = next((layer for layer in missing if layer in table.failed), None)
    if failed is not None:
        anew = f"{_build(table, config, num_classes)} -o NEW.yaml"
        if table.origin == "imported":
            anew = "python3 kit.zip there, which tries them again; mnas latency import results.json -o NEW.yaml"
        raise BadInput(
            f"{message} {table.runtime} could not run them ({table.failed[failed]}): take another --runtime, or a "
            f"space without such layers; if it only lacked memory, measure anew: {anew}"
        )
    sizes = {layer.size for layer in table.entries if layer.takes_images}
    lacking = set(space.resolutions) - sizes
    if sizes and lacking:
        able = sorted(sizes & set(space.resolutions) or sizes)
        message += (
            f" It speaks of networks at {_pixels(sizes)} pixels, not at {_pixels(lacking)}: state --resolution "
            f"{','.join(map(str, able))}."
        )
    if table.origin == "imported":
        raise BadInput(
            f"{message} Import what it was made from for this space: mnas latency import SOURCE "
            f"{_wanted(config, num_classes)} --device '{table.device}' -o NEW.yaml"
        )
    raise BadInput(
        f"{message} Measure them on {table.device}: {_build(table, config, num_classes)} -o {where}; or leave "
        "--latency-table out to have a table made here"
    )


def _wanted(config: RunConfig, num_classes: int) -> str:
    """The options that name the layers of a search."""
    sizes = f" --resolution {','.join(map(str, config.resolution))}" if config.resolution else ""
    return f"--space {config.space} --classes {num_classes}{sizes}"


def _build(table: LatencyTable, config: RunConfig, num_classes: int) -> str:
    """The command that measures a table of a search."""
    return (
        f"mnas latency build {_wanted(config, num_classes)} --runtime {table.runtime} --threads {table.threads} "
        f"--batch {table.batch}"
    )


def _pixels(sizes: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(sizes)))


def _refuse_inexact(
    table: LatencyTable, where: str, space: SearchSpace, config: RunConfig, num_classes: int, here: bool
) -> None:
    """BadInput where a table's stated error is above the run's limit; a warning where it states none."""
    stated = table.calibration
    if stated is None:
        log.warning("%s: states no error: how well it predicts whole networks was not measured", where)
        return
    if stated.space != space.name:
        log.warning("%s: its error was found on networks of '%s', not of '%s'", where, stated.space, space.name)
    if stated.mean_error <= config.max_table_error:
        return
    again = f"measure it again on {table.device} while nothing else runs there"
    if table.origin == "built":
        again += f" ({_build(table, config, num_classes)} -o NEW.yaml) and name it with --latency-table"
    timed = "; or have whole networks timed in its place: --set objective.latency=measured" if here else ""
    raise BadInput(
        f"{where}: on {stated.held_out} networks that it was not fitted to it is off by {stated.mean_error:.1%} in the "
        f"mean, above the limit of {config.max_table_error:.1%}: {again}; or accept it: --set max_table_error="
        f"{math.ceil(100 * stated.mean_error) / 100:g}{timed}"
    )
