"""The parts of a report, each made of a run's facts for the template."""

from __future__ import annotations

import base64
import itertools
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mnas.export.folder import PICTURE_FILE
from mnas.io.size import written
from mnas.latency.table.table import LatencyTable
from mnas.monitor.figures import BY_CLASS
from mnas.pipeline.context import space_of
from mnas.report.blocks import block_diagram, layer_words, widest
from mnas.report.charts import Line, Point, compared_chart, confusion_chart, front_chart, lines_chart
from mnas.report.facts import Facts, Handed, RaceFacts
from mnas.report.latency import compared, layer_shares
from mnas.space.architecture import Architecture
from mnas.space.dense import Outputs
from mnas.study.analysis import best_so_far, front_of
from mnas.study.objective import knee
from mnas.study.trial import ZERO_COST, Trial

MOST_FRONT = 40
MOST_CURVES = 12
MOST_MISTAKES = 24
"""Pictures of all winners together."""


def is_scored(facts: Facts) -> bool:
    """Whether the candidates have scores of untrained networks in place of accuracies."""
    return any(trial.fidelity == ZERO_COST for trial in facts.searched.trials)


def shown_estimate(trial: Trial) -> str:
    """A trial's estimate with its spread."""
    if trial.accuracy is None:
        return ""
    if trial.fidelity == ZERO_COST:
        return f"{trial.accuracy:.3f}"
    return f"{trial.accuracy:.2%}" + ("" if trial.spread is None else f" ± {100 * trial.spread:.1f}")


# --- the front


def front_section(facts: Facts) -> dict[str, Any] | None:
    """The picture of the front and its rows; None before a trial is finished."""
    trials = [one for one in facts.searched.trials if one.state == "complete" and one.accuracy is not None]
    if not trials:
        return None
    best, scored = front_of(trials), is_scored(facts)
    numbers, unit = {trial.number for trial in best}, 1 if scored else 100
    points = [_point(trial, facts, numbers, unit) for trial in trials]
    points += [
        Point(one.latency_ms, unit * one.accuracy, "random", f"random network {one.number}, {shown_estimate(one)}, "
              f"{one.latency_ms:.2f} ms")
        for one in facts.searched.random if one.state == "complete" and one.accuracy is not None
    ]  # fmt: skip
    budgets = [ms for ms in facts.config.wanted_ms if ms is not None]
    bend = knee([(one.accuracy or 0.0, one.latency_ms) for one in best])
    rows = [
        {"trial": one, "estimate": shown_estimate(one), "command": _export(facts, one),
         "knee": len(best) > 2 and (one.accuracy, one.latency_ms) == bend}
        for one in best
    ]  # fmt: skip
    title = "score without training" if scored else f"estimated {facts.figure_name} (%)"
    return {
        "chart": front_chart(points, budgets, title), "rows": rows[-MOST_FRONT:],
        "more": max(0, len(rows) - MOST_FRONT),
        "trials": len(trials), "references": any(one.name for one in trials), "random": bool(facts.searched.random),
        "estimates": sorted({one.fidelity for one in trials}),
    }  # fmt: skip


def _point(trial: Trial, facts: Facts, front: set[int], unit: int) -> Point:
    kind = "front" if trial.number in front else "reference" if trial.name else "trial"
    name = f" ({trial.name})" if trial.name else ""
    words = f"trial {trial.number}{name}, {shown_estimate(trial)}, {trial.latency_ms:.2f} ms"
    value = unit * (trial.accuracy or 0.0)
    return Point(trial.latency_ms, value, kind, words, _export(facts, trial), published=bool(trial.name))


def _export(facts: Facts, trial: Trial) -> str:
    return f"mnas export {shlex.quote(str(facts.run.folder))} --trial {trial.number}"


# --- networks


def networks(winner: Handed) -> dict[str, Any]:
    """The winner beside the baselines."""
    rows = winner.metrics["networks"]
    return {
        "name": winner.name, "budget_ms": winner.budget_ms, "rows": rows, "devices": rows[0]["latencies"],
        "accuracy": winner.metrics["accuracy"], "pretrained": winner.metrics.get("pretrained") or {},
        "importance": sorted(
            winner.metrics.get("search", {}).get("importance", {}).items(), key=lambda item: -item[1]
        )[:8],
    }  # fmt: skip


def blocks(facts: Facts, table: LatencyTable | None) -> list[dict[str, Any]]:
    """For each winner its diagram beside the reference's."""
    shown = []
    for winner in facts.winners:
        name, reference = _reference(facts, winner)
        outputs = winner.outputs
        pair = [(winner.name, winner.architecture)]
        if reference != winner.architecture:
            pair.append((name, reference))
        scale = widest([arch for _, arch in pair], outputs)
        diagrams = []
        for title, arch in pair:
            shares = layer_shares(table, arch, outputs)
            diagrams.append({
                "name": title, "svg": block_diagram(title, arch, outputs, scale, shares), "timed": shares is not None,
                "layers": list(itertools.zip_longest(map(layer_words, arch.layers(outputs)), shares or ())),
                "resolution": written(arch.resolution),
            })  # fmt: skip
        shown.append({"winner": winner, "diagrams": diagrams})
    return shown


def _reference(facts: Facts, winner: Handed) -> tuple[str, Architecture]:
    """The baseline, where the race kept its architecture; else the space's published network at the winner's size."""
    names = [row["name"] for row in winner.metrics["networks"][1:]]
    for race in facts.races:
        for one in race.contenders:
            if one["name"] in names:
                arch = Architecture.from_dict(one["architecture"], one["name"])
                if arch != winner.architecture:
                    return one["name"], arch
    space = space_of(facts.config, None)
    return space.reference, replace(space.published(space.reference), resolution=winner.architecture.resolution)


# --- latency


def latency_section(facts: Facts, tables: Sequence[LatencyTable | None]) -> dict[str, Any]:
    """The tables with their stated errors, and predicted beside measured networks."""
    classes = facts.winners[0].outputs if facts.winners else _only_classes(tables[0])
    rows = compared(facts, tables[0], classes) if classes or tables[0] is None else []
    return {
        "tables": [table for table in tables if table is not None], "rows": rows, "chart": compared_chart(rows),
        "error": sum(abs(one.error) for one in rows) / len(rows) if rows else None,
    }  # fmt: skip


def _only_classes(table: LatencyTable | None) -> Outputs:
    counts = [] if table is None else table.classes()
    return counts[0] if len(counts) == 1 else 0


# --- races and trainings


def races(facts: Facts) -> list[dict[str, Any]]:
    """The races, with their ends where there is a winner."""
    ends = {one.budget_ms: one.metrics.get("search", {}).get("race", {}).get("final", {}) for one in facts.winners}
    return [_race(race, ends.get(race.budget_ms), facts.figure_name) for race in facts.races]


def _race(race: RaceFacts, final: Mapping[str, float] | None, figure: str) -> dict[str, Any]:
    """Each contender's figure at each rung and in the end, and how its epochs made it."""
    lines, rows = [], []
    for one in race.contenders:
        name, points, cells, state = one["name"], [], list[str](), "racing"
        for rung in race.rungs:
            accuracy = rung["accuracies"].get(name)
            cells.append("" if accuracy is None else f"{accuracy:.2%}")
            if accuracy is not None:
                points.append((float(rung["epochs"][name]), 100 * accuracy))
            if name in rung["accuracies"] and name not in rung["survivors"]:
                state = "diverged" if accuracy is None else "dropped"
        if final is not None:
            cells.append(f"{final[name]:.2%}" if name in final else "")
            if name in final and state == "racing":
                points.append((float(race.epochs(one)), 100 * final[name]))
                state = "finished"
        lines.append(Line(name, points))
        rows.append({**one, "cells": cells, "state": state, "epochs_done": int(points[-1][0]) if points else 0})
    said = f"validation {figure} of each contender by epoch; the figures are in the table"
    return {
        "budget_ms": race.budget_ms, "rows": rows,
        "heads": [f"after {rung['part']:.0%}" for rung in race.rungs] + ["in the end"] * (final is not None),
        "chart": lines_chart(lines, "epoch", f"validation {figure} (%)", said),
    }


def curves(facts: Facts) -> list[dict[str, Any]]:
    """The figure that decides on validation images, and the loss, by epoch, the races' contenders first."""
    found = facts.curves
    entered = dict.fromkeys(one["name"] for race in facts.races for one in race.contenders)
    names = [*(name for name in entered if name in found), *(name for name in found if name not in entered)]
    names = names[:MOST_CURVES]
    figures = ((facts.figure, f"validation {facts.figure_name} (%)", 100), ("loss", "training loss", 1))
    charts = []
    for figure, title, unit in figures:
        lines = [
            Line(name, [(float(x), unit * y) for x, y in found[name].get(figure, ()) if math.isfinite(y)],
                 drawn=figure == facts.figure)
            for name in names
        ]  # fmt: skip
        if chart := lines_chart(lines, "epoch", title, f"{title} by epoch of {len(lines)} trainings"):
            charts.append({"title": title, "chart": chart})
    return charts


def random_chart(facts: Facts) -> dict[str, Any] | None:
    """The best estimate so far of the search and of random search; None where they were not compared."""
    if not facts.searched.random:
        return None
    budget_ms, unit = facts.config.wanted_ms[-1], 1 if is_scored(facts) else 100
    lines = []
    for name, trials in (("search", facts.searched.trials), ("random search", facts.searched.random)):
        best = best_so_far([trial for trial in trials if trial.evaluated], budget_ms)
        points = [(float(i), unit * trial.accuracy) for i, trial in enumerate(best, start=1)
                  if trial is not None and trial.accuracy is not None]  # fmt: skip
        lines.append(Line(name, points, drawn=False))
    title = "best score" if is_scored(facts) else "best estimate (%)"
    chart = lines_chart(lines, "evaluation", title, "best estimate within the budget by evaluations")
    return None if chart is None else {"chart": chart, "budget_ms": budget_ms}


# --- the test split


def by_class(winner: Handed) -> dict[str, Any]:
    """The figure of each class on the test split, of a network with a head."""
    key, name = BY_CLASS[winner.metrics["figure"]]
    return {"winner": winner, "name": name, "rows": list(winner.metrics["test"][key].items())}


def confusion(winner: Handed, most: int) -> dict[str, Any]:
    """The confusion matrix, the most frequent confusions, and the surest mistakes, at most `most`."""
    facts = winner.metrics.get("confusion", {})
    return {
        "winner": winner, "chart": confusion_chart(facts, winner.classes), "pairs": facts.get("pairs", [])[:12],
        "per_class": winner.metrics.get("per_class", []),
        "wrong": winner.mistakes.get("wrong"), "mistakes": winner.mistakes.get("mistakes", [])[:most],
    }  # fmt: skip


def predictions(winner: Handed) -> str | None:
    """The picture of a network with a head, as a data URI; None where its folder has none."""
    path = winner.folder / PICTURE_FILE
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}" if path.is_file() else None
