"""The model card states every figure of metrics.json."""

from __future__ import annotations

import re
from typing import Any

import pytest

from mnas.export.card import model_card

FILES = ["model.py", "weights.safetensors", "model.onnx", "own_file.txt"]
PHONE = {
    "device": "a phone", "runtime": "tflite", "threads": 4, "batch": 1, "budget_ms": 30.0, "how": "predicted",
}  # fmt: skip


def card(metrics: dict[str, Any], classes: tuple[str, ...] = ("zero", "one")) -> str:
    return model_card(metrics, classes, FILES)


def section(text: str, number: int) -> str:
    """A section's text; 0 is what stands above the first heading."""
    return re.split(r"^## .*$", text, flags=re.MULTILINE)[number]


USAGE, LISTED, PREPROCESSING, RESULTS, SEARCH, NOTES = range(1, 7)


def rows(text: str) -> list[list[str]]:
    """The cells of every table row but the rule below the head."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|--")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def put(metrics: dict[str, Any], place: tuple[str | int, ...], value: Any) -> None:
    part: Any = metrics
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value


def test_every_figure(metrics: dict[str, Any]) -> None:
    text = card(metrics)
    expected = {
        0: ["# A network for digits\n", "2 classes", "1,234,567", "61.23 M", "224 px", "a 2-core x86 machine"],
        USAGE: ["torch.zeros(1, 3, 224, 224)"],
        LISTED: [f"- `{name}`" for name in FILES],
        PREPROCESSING: ["224x224", "255", "preprocessing.json", "zero, one."],
        RESULTS: [
            "a 2-core x86 machine", "torch", "1 thread,", "batch 1", "15.00 ms", "digits", "360 test", "1,149 images",
            "30 epochs", "288", "1 MAdd = 2 FLOPs",
        ],
        SEARCH: [
            "v3_large", "mnasnet", "tpe, 57 trials, seed 3", "95.12%", "30 epochs", "1 h 2 min 5 s", "2026-11-20",
            "mnas 0.1.0, torch 2.13.0",
        ],
        NOTES: ["95.32% to 98.68%", "360", "15.00 ms", "torch", "11.23 +- 0.31 ms"],
    }  # fmt: skip
    for number, figures in expected.items():
        for figure in figures:
            assert figure in section(text, number), figure
    assert "None" not in text
    assert "\n\n\n" not in text


def test_table(metrics: dict[str, Any]) -> None:
    head, *networks = rows(card(metrics))
    assert networks == [
        ["winner", "winner", "97.50%", "61.23 M", "1,234,567", "224", "11.23 (0.31)", "4.32"],
        ["mobilenet_v3_large", "baseline", "96.94%", "215.30 M", "4,214,842", "224", "17.50 (0.42)",
         "not measured"],
    ]  # fmt: skip
    assert len(head) == 8
    del metrics["networks"][0]["latencies"][0]["exported_latency_ms"]
    assert {len(row) for row in rows(card(metrics))} == {7}


@pytest.mark.parametrize(("factor", "both"), [(1.15, True), (0.8, True), (1.009, False), (0.995, False)])
def test_figures_at_the_tables_speed_and_as_measured(factor: float, both: bool, metrics: dict[str, Any]) -> None:
    for network in metrics["networks"]:
        for one in network["latencies"]:
            one |= {"speed_factor": factor, "measured_ms": factor * one["latency_ms"]}
            if "exported_latency_ms" in one:
                one |= {"exported_measured_ms": factor * 4.321, "exported_keeps": False}
    text = card(metrics)
    _, winner, baseline = rows(section(text, RESULTS))
    shown = [f", {factor * ms:.2f} as measured" * both for ms in (11.234, 4.321, 17.5)]
    assert winner[-2:] == [f"11.23 (0.31){shown[0]}", f"4.32{shown[1]}"]
    assert baseline[-2] == f"17.50 (0.42){shown[2]}"
    percent = {1.15: "15% slower", 0.8: "20% faster"}.get(factor)
    assert (percent or "slower") in section(text, RESULTS) or not both
    assert ("the table's speed" in text) == both
    assert f"11.23 +- 0.31 ms{shown[0]}" in section(text, NOTES)
    assert f"4.32 +- 0.10 ms{shown[1]}" in section(text, NOTES)


@pytest.mark.parametrize(
    ("place", "value", "number", "figures"),
    [
        (("networks", 0, "latencies", 0, "keeps"), False, NOTES, ["NOT", "4.32 +- 0.10 ms"]),
        (("networks", 0, "latencies", 0, "exported_keeps"), False, NOTES, ["NOT", "4.32 +- 0.10 ms"]),
        (("networks", 0, "latencies", 0, "how"), "predicted", NOTES, ["predicted"]),
        (("networks", 0, "latencies", 0, "how"), "predicted", RESULTS, ["predicted"]),
        (("networks", 0, "latencies", 0, "how"), "given", RESULTS, ["given"]),
        (("networks", 0, "latencies", 0, "budget_ms"), None, RESULTS, ["no budget"]),
        (("limits",), {"max_params": 2_000_000}, NOTES, ["1,234,567 parameters", "2,000,000"]),
        (("networks", 0, "test_accuracy"), 1.0, NOTES, ["98.94% to 100.00%"]),
        (("networks", 0, "weights"), "scratch", NOTES, ["mobilenet_v3_large", "30 epochs"]),
        (("networks", 1, "weights"), "scratch", NOTES, ["mobilenet_v3_large", "30 epochs"]),
        (("networks", 0, "epochs"), 12, SEARCH, ["12 epochs"]),
        (("networks", 0, "epochs"), 12, RESULTS, ["12 to 30 epochs"]),
        (("search", "elapsed_s"), 0.2, SEARCH, ["under a second"]),
        (("search", "trials"), 1, SEARCH, ["tpe, 1 trial, seed 3"]),
        (("search", "winner"), "mobilenet_v3_large@0.75:160", SEARCH, ["mobilenet_v3_large@0.75:160"]),
        (("search", "importance"), {"stage3.kernel": 0.2, "resolution": 0.41}, SEARCH, [
            "resolution 41%, stage3.kernel 20%",
        ]),
        (("search", "random"), {
            "trials": 24, "best_accuracy": 0.91, "best_latency_ms": 3.0, "search_best_accuracy": 0.95,
            "search_best_latency_ms": 4.0,
        }, SEARCH, ["24 evaluations", "95.00% at 4.00 ms", "91.00% at 3.00 ms"]),
        (("search", "random"), {
            "trials": 1, "best_accuracy": None, "best_latency_ms": None, "search_best_accuracy": 0.95,
            "search_best_latency_ms": 4.0,
        }, SEARCH, ["1 evaluation ", "95.00% at 4.00 ms", "no candidate"]),
    ],
)  # fmt: skip
def test_a_fact_changes_its_section(
    place: tuple[str | int, ...], value: Any, number: int, figures: list[str], metrics: dict[str, Any]
) -> None:
    before = section(card(metrics), number)
    put(metrics, place, value)
    after = section(card(metrics), number)
    assert not all(figure in before for figure in figures)
    for figure in figures:
        assert figure in after, figure


def test_each_kind_of_estimate_is_named(metrics: dict[str, Any]) -> None:
    cards = set()
    for grade in ("trained", "inherited", "fine-tuned", "zero-cost", "own", ""):
        metrics["search"]["chosen_grade"] = grade
        cards.add(card(metrics))
    assert len(cards) == 6


def test_front(metrics: dict[str, Any]) -> None:
    metrics["search"]["front"] = [
        {"trial": 3, "accuracy": 0.9, "latency_ms": 2.0, "knee": False},
        {"trial": 7, "accuracy": 0.95, "latency_ms": 4.0, "knee": True},
    ]
    assert rows(section(card(metrics), SEARCH))[1:] == [["3", "90.00%", "2.00"], ["7 (knee)", "95.00%", "4.00"]]


def test_a_baseline_that_is_better_within_the_budget(metrics: dict[str, Any]) -> None:
    metrics["networks"][1]["test_accuracy"] = 0.99
    assert "mobilenet_v3_large" not in section(card(metrics), NOTES), "17.5 ms is over the budget"
    metrics["networks"][1]["keeps_budget"] = True
    notes = section(card(metrics), NOTES)
    for figure in ("mobilenet_v3_large", "99.00%", "97.50%"):
        assert figure in notes


def test_a_network_that_was_trained_alone(metrics: dict[str, Any]) -> None:
    for name in ("search", "versions", "date"):
        del metrics[name]
    del metrics["networks"][1], metrics["networks"][0]["weights"]
    metrics["networks"][0]["latencies"][0] |= {"budget_ms": None, "keeps": None, "exported_keeps": None}
    text = card(metrics)
    for word in ("search", "winner meets", "supernet", "15.00"):
        assert word not in text, word
    assert "95.32% to 98.68%" in text


def test_two_devices(metrics: dict[str, Any]) -> None:
    for network, ms in zip(metrics["networks"], (29.0, None), strict=True):
        how = "predicted" if ms else "not in the table"
        latency = {"latency_ms": ms, "spread_ms": 0.5 if ms else None, "keeps": ms and True}
        network["latencies"].append(PHONE | latency | {"how": how})
    text = card(metrics)
    head, winner, baseline = rows(text)
    assert len(head) == 9
    assert winner[6:] == ["11.23 (0.31)", "4.32", "29.00 (0.50)"]
    assert baseline[6:] == ["17.50 (0.42)", "not measured", "not in the table"]
    assert "a 2-core x86 machine and a phone" in section(text, 0)
    assert "a phone, tflite, 4 threads, batch 1; predicted" in section(text, RESULTS)
    assert "29.00 +- 0.50 ms" in section(text, NOTES)


def test_any_text_stays_in_its_line(metrics: dict[str, Any]) -> None:
    metrics["networks"][1]["name"] = metrics["title"] = metrics["accuracy"]["data"] = "a|b\n# c"
    metrics["search"]["importance"] = {"x\n| y": 0.5}
    text = card(metrics, ("one\n\ntwo", "three"))
    assert text.startswith("# a\\|b # c\n")
    assert "one two, three." in text
    assert {len(row) for row in rows(text)} == {8}
    assert len(re.findall(r"^#+ ", text, re.MULTILINE)) == 9


def test_many_classes_are_cut_short(metrics: dict[str, Any]) -> None:
    text = card(metrics, tuple(f"class{i}" for i in range(100)))
    assert "100 classes" in text
    assert "class19 and 80 more." in text
    assert "class20" not in text


# --- what the test split says


def by_class(classes: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"class": f"c{i}", "images": 10, "correct": i % 11, "accuracy": (i % 11) / 10} for i in range(classes)
    ]
    rows[0] |= {"images": 0, "correct": 0, "accuracy": None}
    return rows


def titled(text: str, title: str) -> str:
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_accuracy_by_class(metrics: dict[str, Any]) -> None:
    metrics["per_class"] = by_class(3)
    metrics["confusion"] = {"pairs": [
        {"class": "c1", "prediction": "c2", "images": 9}, {"class": "c2", "prediction": "c1", "images": 1},
    ]}  # fmt: skip
    text = titled(card(metrics), "Accuracy by class")
    assert rows(text)[1:] == [["c0", "0", "no test image"], ["c1", "10", "10.00%"], ["c2", "10", "20.00%"]]
    assert "c1 taken for c2 (9 images), c2 taken for c1 (1 image)." in text
    assert "lowest" not in text
    metrics["confusion"] = {"pairs": []}
    assert "taken for" not in card(metrics)


def test_of_many_classes_those_of_the_lowest_accuracy(metrics: dict[str, Any]) -> None:
    metrics["per_class"] = by_class(101)
    text = titled(card(metrics), "Accuracy by class")
    shares = [row[2] for row in rows(text)[1:]]
    assert len(shares) == 30
    assert shares[:9] == ["0.00%"] * 9
    assert "metrics.json has all" in text


def test_top5(metrics: dict[str, Any]) -> None:
    for network, share in zip(metrics["networks"], (0.991, 0.98), strict=True):
        network["top5_accuracy"] = share
    head, winner, baseline = rows(section(card(metrics), RESULTS))
    assert [row[2:4] for row in (head, winner, baseline)] == [
        ["test accuracy", "top-5"], ["97.50%", "99.10%"], ["96.94%", "98.00%"],
    ]  # fmt: skip
    assert len(head) == len(winner) == len(baseline) == 9


def test_seeds_and_verdicts(metrics: dict[str, Any]) -> None:
    once = section(card(metrics), NOTES)
    assert "trained once" in once
    metrics["networks"][0]["seeds"] = {"accuracies": [0.975, 0.971, 0.979], "mean": 0.975, "sd": 0.004}
    metrics["networks"][1]["seeds"] = {"accuracies": [0.9694], "mean": 0.9694, "sd": None}
    metrics["verdicts"] = [
        {"baseline": "mobilenet_v3_large", "seeds": 3, "points": 0.6, "half_width": 0.4,
         "verdict": "better by 0.6 +- 0.4 points"},
        {"baseline": "other", "seeds": 1, "points": 0.1, "half_width": 0.4,
         "verdict": "can not be told apart (0.1 +- 0.4 points)"},
        {"baseline": "itself", "seeds": 1, "points": 0.0, "half_width": None, "verdict": "the same network"},
    ]  # fmt: skip
    text = card(metrics)
    head, winner, baseline = rows(section(text, RESULTS))
    assert [row[3] for row in (head, winner, baseline)] == ["mean of 3 seeds", "97.50% +- 0.40%", "96.94%"]
    assert len(head) == len(winner) == len(baseline) == 9
    notes = section(text, NOTES)
    assert "trained once" not in notes
    for words in ("3 times", "97.50% +- 0.40%", "mobilenet_v3_large: better by 0.6 +- 0.4 points", "mean over 3 seeds",
                  "other: can not be told apart (0.1 +- 0.4 points)", "two trained networks",
                  "itself: the same network.\n"):  # fmt: skip
        assert words in notes
    assert "\n\n\n" not in text
