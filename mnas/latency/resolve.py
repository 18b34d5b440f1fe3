"""The latency table of each device of a run: found or built, and refused where it cannot be used."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from pathlib import Path

from mnas.config import RunConfig, Target
from mnas.errors import BadInput, MissingDependency, Postponed
from mnas.io.size import Size, in_order, shown
from mnas.latency.conditions import Conditions
from mnas.latency.importers.tables import with_classifiers
from mnas.latency.importers.units import unit_doubt
from mnas.latency.table.cache import table_for
from mnas.latency.table.suggestions import in_words, suggestions
from mnas.latency.table.table import LatencyTable, differences, load_table
from mnas.run import Run
from mnas.space.dense import Outputs, classes_of, options_of, under
from mnas.space.layer import Layer
from mnas.space.space import SearchSpace

log = logging.getLogger("mnas")


def resolve_table(
    run: Run, space: SearchSpace, config: RunConfig, index: int, num_classes: Outputs, others: Iterable[Layer] = ()
) -> tuple[LatencyTable | None, bool]:
    """The table of the run's target number `index`, and whether it is of this machine.

    In this order: the run's own copy, the file that the user named, this machine's table, built where needed. It has
    all layers of the space, and those of `others` that the source has. None where whole networks are timed instead.
    """
    target, copy = config.targets[index], table_copy(run, index)
    timed = config.objective.latency == "measured"
    if timed and target.latency_table is None:
        return None, True
    layers = space.layers(num_classes)
    path = copy if _is_whole(copy) else Path(target.latency_table) if target.latency_table else None
    if path is None:
        where, here = f"the latency table of {target.runtime} here", True
        conditions = Conditions(target.runtime, config.threads, config.batch)
        table = table_for(space, num_classes, conditions, seed=config.seed, accepted=config.max_table_error)
    else:
        where, table = str(path), load_table(path)
        here = admit_table(table, target, config, path, resumed=path == copy)
        if timed and here:
            return None, True
        doubt = unit_doubt(table.entries, table.conditions) if here and path != copy else None
        if doubt:
            raise BadInput(f"{where}: {doubt[1]} Measure it again: {_build(table, config, num_classes)} -o NEW.yaml")
        table = _with_classifier(table, where, layers)
    _refuse_incomplete(table, where, space, config, layers, num_classes)
    if path is None:
        _postpone_inexact(table, where, run, config)
    else:
        _refuse_inexact(table, where, space, config, num_classes, here)
    table = table.only(layers | set(others))
    if path != copy:
        if line := in_words([one.to_dict() for one in suggestions(table, layers)]):
            log.info("%s: %s", where, line)
        table.save(copy)
    return table, here


def _is_whole(copy: Path) -> bool:
    """Whether the run has a copy of its table; where that is damaged, it is said and another one is taken."""
    try:
        return copy.exists() and bool(load_table(copy))
    except BadInput as error:
        log.warning("%s; the table is taken again from where the run had it", error)
        return False


def table_copy(run: Run, index: int) -> Path:
    """Where a run keeps the table of its target number `index`."""
    return run.table_path.with_stem(f"{run.table_path.stem}_{index + 1}") if index else run.table_path


def admit_table(
    table: LatencyTable, target: Target, config: RunConfig, path: str | Path, resumed: bool = False
) -> bool:
    """Whether the table is of this machine, so that networks can be measured here.

    BadInput for a table of another machine or of other conditions without `allow_foreign_table`, unless imported.
    """
    if table.origin == "imported":
        return False
    try:
        differ = differences(table, Conditions(target.runtime, config.threads, config.batch))
    except MissingDependency:
        if config.allow_foreign_table:
            return False
        raise
    measurable = all(difference.startswith("runtime version") for difference in differ)
    if differ and not config.allow_foreign_table and not (resumed and measurable):
        raise BadInput(
            f"{path}: was measured under other conditions ({'; '.join(differ)}): state --runtime, --threads and "
            "--batch as the table has them, leave --latency-table out to have a table built here, or give "
            "--allow-foreign-table to search for that device, where the winner is predicted, not measured"
        )
    if differ:
        log.warning("%s: was measured with %s", path, "; ".join(differ))
    return measurable


def _with_classifier(table: LatencyTable, where: str, layers: set[Layer]) -> LatencyTable:
    """An imported table with its missing classifiers of `layers`, scaled from the ones it has."""
    if table.origin != "imported":
        return table
    scaled = with_classifiers(table, layers)
    added = [layer for layer in scaled.entries if layer not in table.entries]
    if added:
        log.info(
            "%s: lacks the classifier for %d classes: its latency is scaled from that for another number of classes",
            where, added[0].out_channels,
        )  # fmt: skip
    return scaled


def _refuse_incomplete(
    table: LatencyTable, where: str, space: SearchSpace, config: RunConfig, layers: set[Layer], num_classes: Outputs
) -> None:
    """BadInput where a table lacks some of `layers`, with the command that adds them."""
    missing = sorted(table.missing(layers), key=str)
    if not missing:
        return
    examples = "; ".join(map(str, missing[:3])) + "; ..." * (len(missing) > 3)
    lacks = f"lacks {len(missing):,} layer{'s' * (len(missing) > 1)}"
    message = f"{where}: {lacks} of space '{space.name}' for {classes_of(num_classes)} classes: {examples}."
    failed = next((layer for layer in missing if layer in table.failed), None)
    if failed is not None:
        again = f"{_build(table, config, num_classes)} -o NEW.yaml"
        if table.origin == "imported":
            again = "python3 kit.zip there, which tries them again; mnas latency import results.json -o NEW.yaml"
        refused = [one.without for one in suggestions(table, layers) if one.slower is None]
        without = f" (--without {','.join(refused)})" if refused else ""
        raise BadInput(
            f"{message} {table.runtime} could not run them ({table.failed[failed]}): take another --runtime, or a "
            f"space without such layers{without}; if memory was short, measure again: {again}"
        )
    sizes = {layer.size for layer in table.entries if layer.takes_images}
    lacking = set(space.resolutions) - sizes
    if sizes and lacking:
        usable = in_order(sizes & set(space.resolutions) or sizes)
        message += (
            f" It has networks at {_pixels(sizes)} pixels, not at {_pixels(lacking)}: state --resolution "
            f"{','.join(map(shown, usable))}."
        )
    if table.origin == "imported":
        raise BadInput(
            f"{message} Import its source again for this space: mnas latency import SOURCE "
            f"{_space_options(config, num_classes)} --device '{table.device}' -o NEW.yaml"
        )
    raise BadInput(
        f"{message} Measure them on {table.device}: {_build(table, config, num_classes)} -o {where}; or leave "
        "--latency-table out to have a table built here"
    )


def _space_options(config: RunConfig, num_classes: Outputs) -> str:
    """The options that determine the layers of a search."""
    sizes = f" --resolution {','.join(map(shown, config.resolution))}" if config.resolution else ""
    without = f" --without {','.join(config.without)}" * bool(config.without)
    return f"--space {config.space}{without} {options_of(num_classes)}{sizes}"


def _build(table: LatencyTable, config: RunConfig, num_classes: Outputs) -> str:
    """The command that measures a search's table."""
    return f"mnas latency build {_space_options(config, num_classes)} {table.conditions.options}"


def _pixels(sizes: Iterable[Size]) -> str:
    return ", ".join(map(shown, in_order(sizes)))


def _postpone_inexact(table: LatencyTable, where: str, run: Run, config: RunConfig) -> None:
    """Postponed where the table that was measured here, twice, is not exact: the machine may be busy."""
    fit = table.calibration
    if fit is None or fit.is_exact(config.max_table_error):
        return
    error = fit.error.mean_error
    raise Postponed(
        f"{where}: mean error {error:.1%} on {fit.networks.held_out} networks not used for the fit, above the limit of "
        f"{config.max_table_error:.1%}; is the machine busy? Measure it again when it is not: mnas resume "
        f"{run.folder}. A new run may accept the error (--set max_table_error={math.ceil(100 * error) / 100:g}), or "
        "time whole networks instead: --set objective.latency=measured"
    )


def _refuse_inexact(
    table: LatencyTable, where: str, space: SearchSpace, config: RunConfig, num_classes: Outputs, here: bool
) -> None:
    """BadInput where a table's mean error is above the run's limit; a warning where it has none."""
    if table.calibration is None:
        log.warning("%s: not calibrated: its error on whole networks is unknown", where)
        return
    error, networks = table.calibration.error.mean_error, table.calibration.networks
    named = under(space.name, num_classes)
    if networks.space not in (named, under(space.file.name, num_classes)):  # the latter has all networks of the former
        log.warning("%s: its error was measured on networks of '%s', not of '%s'", where, networks.space, named)
    if error <= config.max_table_error:
        return
    again = f"measure it again on {table.device} while nothing else runs there"
    if table.origin == "built":
        again += f" ({_build(table, config, num_classes)} -o NEW.yaml) and name it with --latency-table"
    timed = "; or time whole networks instead: --set objective.latency=measured" if here else ""
    raise BadInput(
        f"{where}: mean error {error:.1%} on {networks.held_out} networks not used for the fit, above the limit of "
        f"{config.max_table_error:.1%}: {again}; or accept it: --set max_table_error="
        f"{math.ceil(100 * error) / 100:g}{timed}"
    )
