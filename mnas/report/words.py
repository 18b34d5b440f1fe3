"""What a run found, in sentences."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from mnas.io.size import shown
from mnas.monitor.figures import NAMES, as_measured, count, figure_of, value_on_test
from mnas.report.facts import Facts, Handed

LATENCIES = {
    "measured": "measured as a whole network", "predicted": "predicted by its latency table, not measured",
    "given": "by the given latency function",
}  # fmt: skip


def standing(facts: Facts) -> tuple[str, str]:
    """How far a run is: a heading, and a sentence with the way on; that is empty where it is finished."""
    evaluated = sum(trial.evaluated for trial in facts.searched.trials)
    way_on = f"Continue it: mnas resume {shlex.quote(str(facts.run.folder))}"
    if facts.state.done:
        return "Finished", ""
    if facts.winners:
        missing = len(facts.config.wanted_ms) - len(facts.winners)
        if missing:
            of = len(facts.config.wanted_ms)
            return "Not finished", f"{count(missing, 'budget')} of {of} without a winner. {way_on}"
        return "Finished", ""
    if facts.races and any(race.rungs for race in facts.races):
        return "Not finished", f"The race goes on between {count(_racing(facts), 'network')}. {way_on}"
    if facts.state.searched:
        return "Not finished", f"The search is over, after {count(evaluated, 'candidate')}; no winner yet. {way_on}"
    if evaluated:
        return "Not finished", f"The search has evaluated {count(evaluated, 'candidate')}; no winner yet. {way_on}"
    return "Not finished", f"No candidate has been evaluated yet. {way_on}"


def _racing(facts: Facts) -> int:
    return sum(len(race.rungs[-1]["survivors"]) if race.rungs else len(race.contenders) for race in facts.races)


def verdict(winner: Handed) -> list[str]:
    """The winner's accuracy and latencies, and how it compares."""
    row, images = winner.metrics["networks"][0], winner.metrics["accuracy"]["test_images"]
    share = value_on_test(row)
    sentences = [_scored(winner, row, images) if "figure" in winner.metrics else _classified(winner, share, images)]
    majority = winner.metrics.get("majority_share")
    if majority is not None and share <= majority:
        sentences.append(f"That is no better than always answering the most frequent class ({majority:.2%}).")
    sentences += [_latency(one) for one in row["latencies"]]
    for one in winner.metrics.get("verdicts", ()):
        if one["half_width"] is not None:  # else it is the same network
            sentences.append(f"On the same test images, it and {one['baseline']}: {one['verdict'].replace('+-', '±')}.")
    search = winner.metrics.get("search", {})
    return [*sentences, *_against_chance(search.get("random"), scored=search.get("estimator") == "zero_cost")]


def _classified(winner: Handed, share: float, images: int) -> str:
    from scipy.stats import binomtest  # takes a second

    said = f"{_what(winner)} classifies {share:.2%} of {count(images, 'test image')} correctly"
    if images:
        interval = binomtest(round(share * images), images).proportion_ci(method="wilson")
        said += f" (95% interval {interval.low:.2%} to {interval.high:.2%})"
    return f"{said}."


def _scored(winner: Handed, row: Mapping[str, Any], images: int) -> str:
    """Of a network with a head."""
    figure, spread = NAMES[figure_of(row)], row.get("spread")
    within = "" if spread is None else f" (95% interval of ± {100 * spread:.1f} points)"
    return (
        f"{_what(winner)} under {winner.outputs} has {figure} {value_on_test(row):.2%} on "
        f"{count(images, 'test image')}{within}."
    )


def _what(winner: Handed) -> str:
    search, size = winner.metrics.get("search", {}), shown(winner.architecture.resolution)
    name = search.get("winner", winner.name)
    contenders = search.get("race", {}).get("contenders", [])
    if any(one["name"] == name and one["kind"] == "reference" for one in contenders):
        return (
            f"The published network {name} was handed over, as no found one was better by more than noise. "
            f"At {size} px it"
        )
    return f"The winner ({name}, {size} px)"


def _latency(latency: Mapping[str, Any]) -> str:
    where = f"with {latency['runtime']} on {latency['device']}"
    if latency["latency_ms"] is None:
        return f"Its latency {where} is not known: {latency['how']}."
    spread = f" ± {latency['spread_ms']:.2f}" if latency["spread_ms"] else ""
    measured = as_measured(latency.get("measured_ms"), latency.get("speed_factor"))
    keeps = ""
    if latency["keeps"] is not None:
        keeps = f": it {'keeps' if latency['keeps'] else 'does NOT keep'} the budget of {latency['budget_ms']:g} ms"
    how = LATENCIES.get(latency["how"], latency["how"])
    return f"It takes {latency['latency_ms']:.2f}{spread} ms{measured} {where}, {how}{keeps}."


def _against_chance(random: Mapping[str, Any] | None, scored: bool) -> list[str]:
    """The search beside random search; `scored` where estimates are scores of untrained networks."""
    if not random or not random["trials"]:
        return []
    best = {who: random.get(f"{prefix}best_accuracy") for who, prefix in (("search", "search_"), ("random search", ""))}
    form = ".3f" if scored else ".2%"
    found = [f"{'no candidate' if one is None else format(one, form)} by {who}" for who, one in best.items()]
    chance_wins = (best["search"] or 0) <= (best["random search"] or 0)
    return [
        f"After {count(random['trials'], 'evaluation')} each, the best estimate within the budget is "
        f"{' and '.join(found)}{'; the search was no better than chance' if chance_wins else ''}."
    ]
