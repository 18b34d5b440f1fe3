"""The model card of a network with a head states every figure of metrics.json, of a search and of a single training."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest

from mnas.export.dense_card import dense_card

SEGMENTATION: dict[str, Any] = {
    "task": "segmentation", "head": "lraspp", "output_stride": 16, "resolution": "64x96", "channels": 3,
    "figure": "miou", "judged_at": "the masks' own pixels", "network": {"params": 179_610, "madds": 1_796_100},
    "validation": {"images": 61, "miou": 0.4012, "pixel_accuracy": 0.8023,
                   "iou": {"background": 0.7034, "circle": 0.3045, "sky": None}},
    "test": {"images": 107, "miou": 0.4156, "pixel_accuracy": 0.8167,
             "iou": {"background": 0.7178, "circle": 0.3189, "sky": None}},
    "data": {"name": "shapes", "source": "shapes", "description": "rendered, not photographed: shapes",
             "classes": ["background", "circle", "sky"], "images": {"train": 243, "val": 61, "test": 107}, "seed": 5,
             "max_broken": 100},
}  # fmt: skip
DETECTION: dict[str, Any] = SEGMENTATION | {
    "task": "detection", "head": "ssdlite", "output_stride": 32, "resolution": 72, "figure": "map",
    "judged_at": "the images' own pixels",
    "validation": {"images": 61, "map": 0.2012, "map_50": 0.4023, "map_75": 0.1034,
                   "ap": {"circle": 0.2045, "ring": 0.1978}},
    "test": {"images": 107, "map": 0.2156, "map_50": 0.4167, "map_75": 0.1178, "ap": {"circle": 0.2189, "ring": None}},
    "data": SEGMENTATION["data"] | {"classes": ["circle", "ring"]},
}  # fmt: skip
COMMON: dict[str, Any] = {
    "pretrained": {"origins": [], "missing": None}, "versions": {"mnas": "0.1.0", "torch": "2.13.0"},
}  # fmt: skip


def file_row(name: str, number: float) -> dict[str, Any]:
    return {
        "format": "any", "files": [name], "bytes": round(number * 1_110_000), "agreement": 0.99 - number / 1000,
        "largest_difference": number * 1e-6, "latency_ms": number, "unstable": None,
        "latency_interval_ms": [number - 0.1, number + 0.1],
    }  # fmt: skip


def trained(task: dict[str, Any]) -> dict[str, Any]:
    """What `mnas train --task` writes."""
    return copy.deepcopy({
        "title": "mobilenet_v3_small under a head", **task, **COMMON, "spread": 0.0321, "device": "a 2-core machine",
        "training": {"epochs": 13, "seconds": 362.4, "weights": "scratch", "threads": 2, "precision": "bfloat16",
                     "images_per_s": 184.2, "recipe": {"images": None, "lr": 0.8}},
        "files": [file_row("model.py", 3.37), file_row("model.onnx", 1.29)],
    })  # fmt: skip


def searched(task: dict[str, Any]) -> dict[str, Any]:
    """What `mnas search --task` writes."""
    where = {
        "device": "a board", "runtime": "onnxruntime", "threads": 3, "batch": 1, "budget_ms": 15.0, "how": "measured",
    }  # fmt: skip
    figure = task["figure"]

    def row(name: str, role: str, params: int, value: float, ms: float, keeps: bool) -> dict[str, Any]:
        return {
            "name": name, "role": role, f"test_{figure}": value, "spread": 0.0321, f"val_{figure}": 0.4,
            "seeds": {"values": [value, value + 0.01], "mean": value + 0.005, "sd": 0.0077}, "params": params,
            "madds": 10 * params, "activation_mb": 2.5, "resolution": task["resolution"], "weights": "scratch",
            "epochs": 13, "seconds": 362.4, "keeps_budget": keeps,
            "latencies": [{**where, "latency_ms": ms, "spread_ms": 0.31, "keeps": keeps}],
        }  # fmt: skip

    winner = row("winner", "winner", 179_610, task["test"][figure], 11.23, True)
    winner["latencies"][0] |= {
        "exported_file": "model_raw.onnx", "exported_latency_ms": 10.37, "exported_spread_ms": 0.22,
        "exported_keeps": True,
    }  # fmt: skip
    return copy.deepcopy({
        "title": "v3_small winner", **task, **COMMON, "limits": {}, "date": "2026-11-29",
        "networks": [winner, row("mobilenet_v3_small@0.5:64", "baseline", 301_217, 0.1934, 12.51, True)],
        "accuracy": {"train_images": 243, "val_images": 61, "test_images": 107, "epochs": 13, "precision": "float32"},
        "search": {
            "space": "v3_small", "objective": "mnasnet", "sampler": "predictor", "trials": 57, "seed": 3,
            "elapsed_s": 3725.2, "estimator": "supernet", "importance": {"resolution": 0.41}, "winner": "trial 12",
            "chosen_trial": 12, "chosen_estimate": 0.2512, "chosen_grade": "inherited", "race": {"rungs": []},
        },
        "verdicts": [{
            "baseline": "mobilenet_v3_small@0.5:64", "seeds": 2, "metric": figure, "points": 2.2, "half_width": 1.1,
            "verdict": "better by 2.2 +- 1.1 points",
        }],
    })  # fmt: skip


SOURCES = [(source, task) for source in (trained, searched) for task in (SEGMENTATION, DETECTION)]


@pytest.fixture(params=SOURCES, ids=[f"{source.__name__}-{task['task']}" for source, task in SOURCES])
def metrics(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Those of each source and task, which a test may change."""
    source, task = request.param
    made: dict[str, Any] = source(task)
    return made


def card(metrics: dict[str, Any]) -> str:
    return dense_card(metrics, ["model.py", "model.onnx", "model_raw.onnx", "tb", "own_file.txt"])


def titled(text: str, title: str) -> str:
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of every table row but the rule below the head."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|--")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


LEFT_OUT = ("recipe", "race", "max_broken", "chosen_trial", "bytes", "half_width", "points", "activation_mb",
            "accuracies", "values", "spread", "val_miou", "val_map", "exported_spread_ms")  # fmt: skip
"""What a verdict or an interval says in other figures, and what is of no use to a reader."""


def numbers(part: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Every number, with its key."""
    if isinstance(part, dict):
        for name, inner in part.items():
            if name not in LEFT_OUT:
                yield from numbers(inner, name)
    elif isinstance(part, list):
        for inner in part:
            yield from numbers(inner, key)
    elif isinstance(part, int | float) and not isinstance(part, bool):
        yield key, part


def shown(number: float) -> set[str]:
    """The ways in which a card may state it."""
    minutes, seconds = divmod(round(number), 60)
    times = {f"{minutes} min {seconds} s", f"{minutes // 60} h {minutes % 60} min {seconds} s"}
    return times | {
        f"{number:.2%}", f"{number:.0%}", f"{number:,}", f"{number / 1e6:,.2f} M", f"{number:,.2f}", f"{number:.1e}",
        f"{number:.0f} images/s",
    }  # fmt: skip


def test_every_figure(metrics: dict[str, Any]) -> None:
    text = card(metrics)
    found = list(numbers(metrics))
    assert len(found) > 30
    for key, number in found:
        assert any(re.search(rf"(?<![\d.,]){re.escape(one)}(?!\d)", text) for one in shown(number)), (key, number)
    assert "None" not in text
    assert "\n\n\n" not in text


def test_facts_in_words(metrics: dict[str, Any]) -> None:
    text, detects = card(metrics), metrics["task"] == "detection"
    head, size = ("SSDLite", "72, 72") if detects else ("LR-ASPP", "64, 96")
    assert text.startswith(f"# {metrics['title']}\n")
    assert f"under {head} at output stride {metrics['output_stride']}" in text
    assert f"torch.zeros(1, 3, {size})" in titled(text, "Usage")
    assert ("`boxes` (n, 4)" if detects else "`logits`") in titled(text, "Files")
    assert re.findall(r"^- `(\S+)`", text, re.MULTILINE)[-1] == "own_file.txt"
    assert metrics["judged_at"] in titled(text, "Results")
    assert "rendered, not photographed" in titled(text, "Data")
    assert "mnas 0.1.0, torch 2.13.0" in text
    code = titled(text, "Usage").partition("```python\n")[2].partition("```")[0]
    ast.parse(code)


def test_tables(metrics: dict[str, Any]) -> None:
    text, test, detects = card(metrics), metrics["test"], metrics["task"] == "detection"
    results = titled(text, "Results")
    head, *splits = rows(results.partition("Judged in")[0])
    assert head == ["split", "images", *(["mAP", "AP50", "AP75"] if detects else ["mIoU", "pixel accuracy"])]
    assert [row[:3] for row in splits] == [
        ["test", "107", f"{test[metrics['figure']]:.2%}"],
        ["validation", "61", f"{metrics['validation'][metrics['figure']]:.2%}"],
    ]  # fmt: skip
    by_class = dict(row[:2] for row in rows(titled(text, f"{'AP' if detects else 'IoU'} by class"))[1:])
    assert list(by_class) == metrics["data"]["classes"]
    assert by_class["circle"] == ("21.89%" if detects else "31.89%")
    assert "%" not in by_class["ring" if detects else "sky"]
    compared = rows(results.partition("Judged in")[2])
    assert len({len(row) for row in compared}) == 1
    if "search" in metrics:
        assert [row[0] for row in compared[1:]] == ["winner", "mobilenet_v3_small@0.5:64"]
        assert compared[1][-2:] == ["11.23 (0.31)", "10.37"] and compared[2][-2:] == ["12.51 (0.31)", "not measured"]
    else:
        assert [row[0] for row in compared[1:]] == ["model.py", "model.onnx"]
        assert compared[1][2] == "3.37 (3.27 to 3.47)"


def test_how_certain(metrics: dict[str, Any]) -> None:
    interval = {"miou": "38.35% to 44.77%", "map": "18.35% to 24.77%"}[metrics["figure"]]
    notes = titled(card(metrics), "Interpreting the results")
    assert interval in notes and "107 test images" in notes
    for one in (metrics, *metrics.get("networks", ())):
        one["spread"] = None
    notes = titled(card(metrics), "Interpreting the results")
    assert interval not in notes and "107 images" in notes


def test_a_network_that_was_trained_alone_was_not_searched() -> None:
    text = card(trained(SEGMENTATION))
    for word in ("## Search", "winner", "budget", "baseline"):
        assert word not in text, word
    metrics = trained(SEGMENTATION)
    metrics["training"]["recipe"]["images"] = 99
    metrics["files"][0]["unstable"] = "busy machine"
    text = card(metrics)
    assert "99 images for 13 epochs from scratch" in text and "model.py is uncertain (busy machine)" in text


def test_a_trial_that_was_handed_over_later() -> None:
    """`mnas export RUN --trial N`: latencies, but no search, and nothing to compare with."""
    metrics = searched(SEGMENTATION)
    del metrics["networks"][1], metrics["verdicts"]
    metrics |= {"search": {}, "title": "v3_small trial 7"}
    once = {"values": [0.4], "mean": 0.4, "sd": None}
    metrics["networks"][0] |= {"name": "trial 7", "role": "trained", "seeds": once}
    text = card(metrics)
    assert "## Search" not in text and "winner" not in text
    assert "The network meets the budget of 15.00 ms" in text


@pytest.mark.parametrize(("change", "words"), [
    ({"keeps": False, "latency_ms": 16.2}, ["does NOT meet", "16.20 +- 0.31 ms"]),
    ({"exported_keeps": False}, ["exported file does NOT meet", "10.37 +- 0.22 ms"]),
    ({"how": "predicted"}, ["predicted by a latency table"]),
    ({"speed_factor": 1.15, "measured_ms": 12.91}, ["12.91 as measured"]),
])  # fmt: skip
def test_budgets(change: dict[str, Any], words: list[str]) -> None:
    metrics = searched(DETECTION)
    assert "meets the budget of 15.00 ms" in titled(card(metrics), "Interpreting the results")
    metrics["networks"][0]["latencies"][0] |= change
    notes = titled(card(metrics), "Interpreting the results")
    for one in words:
        assert one in notes


def test_a_baseline_of_a_higher_figure_is_named_but_not_the_winner_itself() -> None:
    metrics = searched(DETECTION)
    assert "higher mAP" not in card(metrics)
    metrics["networks"][1]["test_map"] = 0.3033
    assert "mobilenet_v3_small@0.5:64 has a higher mAP on the test split (30.33%" in card(metrics)
    metrics["networks"][1]["test_map"] = metrics["networks"][0]["test_map"]
    assert "the same mAP" in card(metrics)
    metrics["verdicts"][0] |= {"half_width": None, "verdict": "the same network"}
    assert "the same mAP" not in card(metrics)


def test_any_text_stays_in_its_line(metrics: dict[str, Any]) -> None:
    before, odd = card(metrics), "a|b\n# c <i>"
    key = "ap" if metrics["task"] == "detection" else "iou"
    metrics["title"] = metrics["data"]["name"] = metrics["data"]["description"] = odd
    for split in ("test", "validation"):
        metrics[split][key] = {odd: 0.25, "ring": 0.5}
    metrics["data"]["classes"] = [odd, "ring"]
    for one in metrics.get("networks", ()):
        one["name"] = odd
    text = card(metrics)
    assert text.startswith("# a\\|b # c &lt;i&gt;\n")
    count = len(re.findall(r"^#+ ", before, re.MULTILINE))
    assert len(re.findall(r"^#+ ", text, re.MULTILINE)) == count
    assert {len(row) for row in rows(titled(text, f"{'AP' if key == 'ap' else 'IoU'} by class"))} == {3}
    assert "<i>" not in text


def test_many_classes_are_cut_short() -> None:
    metrics = trained(DETECTION)
    values = {f"class{i}": (i * 7 % 100) / 100 for i in range(100)}
    metrics["data"]["classes"], metrics["test"]["ap"] = list(values), values
    metrics["validation"]["ap"] = values
    text = card(metrics)
    assert "class19 and 80 more." in text
    shares = [float(row[1][:-1]) for row in rows(titled(text, "AP by class"))[1:]]
    assert len(shares) == 30 and shares == [float(i) for i in range(30)]
