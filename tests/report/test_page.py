"""The page of a run says what its files say, whatever the run is and however far it came."""

from __future__ import annotations

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import Mnas
from markdown_it import MarkdownIt
from odd_names import CLASSES
from PIL import Image

from mnas import BadInput, Result
from mnas.report.facts import gather
from mnas.report.page import render, report_after
from mnas.run import Run
from mnas.study.analysis import front_of
from mnas.study.trial import Trial

VOID = {"meta", "link", "img", "br", "input"}
ELEMENTS = {
    *("html", "head", "meta", "link", "title", "style", "body", "header", "nav", "main", "footer", "section"),
    *("h1", "h2", "h3", "h4", "p", "span", "a", "ul", "ol", "li", "dl", "dt", "dd", "div", "figure", "figcaption"),
    *("output", "i", "b", "table", "thead", "tbody", "tr", "th", "td", "code", "pre", "details", "summary"),
    *("script", "img", "svg", "path", "circle", "rect", "text"),
}


class Parsed(HTMLParser):
    """A page's elements and texts; elements that are not closed in order are an error."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def sections(self) -> set[str | None]:
        return {attributes["id"] for attributes in self.all("section")}


@pytest.fixture(scope="module")
def page(done: Result) -> Parsed:
    return Parsed((done.folder / "report.html").read_text())


def test_a_search_leaves_its_report(done: Result, page: Parsed) -> None:
    assert page.sections == {
        "networks", "front", "blocks", "latency", "race", "trainings", "random", "mistakes", "leaderboard", "use",
        "provenance",
    }  # fmt: skip
    for one in done.metrics["verdicts"]:
        assert f"it and {one['baseline']}: {one['verdict'].replace('+-', '±')}." in page.text
    row = done.metrics["networks"][0]
    assert f"{row['test_accuracy']:.2%}" in page.text
    assert f"{row['latency_ms']:.2f} ms" in page.text
    assert (done.folder / "report.html").stat().st_size < 300_000


def test_every_trial_of_the_front_has_its_command(done: Result, page: Parsed) -> None:
    for trial in done.front:
        command = f"mnas export '{done.folder}' --trial {trial.number}"
        assert command in page.texts, "in the table"
        assert any(text.endswith(f"\n{command}") for text in page.texts), "at its point"


def test_nothing_of_the_data_becomes_markup(done: Result, page: Parsed) -> None:
    assert {name for name, _ in page.elements} <= ELEMENTS | {"title"}
    assert len(page.all("script")) == 1
    assert not [attributes for _, attributes in page.elements if any(key.startswith("on") for key in attributes)]
    classes = (done.folder / "winner" / "preprocessing.json").read_text()
    assert all(json.dumps(name, ensure_ascii=False) in classes for name in CLASSES)
    assert all(name in page.text for name in CLASSES)
    assert "<odd>" in page.text


def test_nor_in_the_card(done: Result) -> None:
    card = (done.folder / "winner" / "README.md").read_text()
    page = Parsed(MarkdownIt("commonmark", {"html": True}).enable("table").render(card))
    assert not [one for kind in ("script", "img", "a", "b") for one in page.all(kind)]
    assert all(name in page.text for name in CLASSES)


def test_pictures_have_alternatives_and_nothing_is_loaded(page: Parsed) -> None:
    assert all(attributes["alt"] for attributes in page.all("img"))
    assert all(attributes["aria-label"] and attributes["role"] == "img" for attributes in page.all("svg"))
    assert all((attributes["src"] or "").startswith("data:image/") for attributes in page.all("img"))
    assert not [one for one in page.all("script") if "src" in one]
    assert all((one["href"] or "").startswith("#") for one in page.all("a"))
    assert not [value for _, attributes in page.elements for value in attributes.values() if "://" in (value or "")]


def test_the_surest_mistakes_come_first(done: Result, page: Parsed) -> None:
    kept = json.loads((done.folder / "mistakes" / "winner.json").read_text())
    mistakes = kept["mistakes"]
    wrong = sum(row["images"] - row["correct"] for row in done.metrics["per_class"])
    assert kept["wrong"] == wrong > 0
    assert len(page.all("img")) == len(mistakes) == min(wrong, 24)
    assert [one["probability"] for one in mistakes] == sorted((one["probability"] for one in mistakes), reverse=True)
    assert all(one["class"] != one["prediction"] for one in mistakes)
    assert all(re.fullmatch(r"<b>\d+&\.png", one["file"]) for one in mistakes)


def test_predictions_of_a_network_with_a_head_are_a_picture(done: Result, tmp_path: Path) -> None:
    run = shutil.copytree(done.folder, tmp_path / "run")
    before = Parsed(render(gather(Run(run)))).all("img")
    Image.new("RGB", (3, 2), "red").save(run / "winner" / "predictions.png")
    added = [one for one in Parsed(render(gather(Run(run)))).all("img") if one not in before]
    assert [one["src"] for one in added] == [
        f"data:image/png;base64,{base64.b64encode((run / 'winner' / 'predictions.png').read_bytes()).decode()}"
    ]


def test_the_race_and_the_random_search(done: Result, page: Parsed) -> None:
    for rung in done.metrics["search"]["race"]["rungs"]:
        assert all(f"{share:.2%}" in page.text for share in rung["accuracies"].values())
    best = done.metrics["search"]["random"]["best_accuracy"]
    assert f"{best:.2%} by random search" in page.text
    assert "no better than chance" in page.text or best < done.metrics["search"]["random"]["search_best_accuracy"]


# --- runs that are not finished


def cut(done: Result, folder: Path, *gone: str, **state: Any) -> Run:
    """A copy of a finished run as it was before these files were there."""
    shutil.copytree(done.folder, folder)
    for name in gone:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    stated = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**stated, "done": False, **state}))
    return Run(folder)


def test_before_the_winner(done: Result, tmp_path: Path) -> None:
    run = cut(done, tmp_path / "run", "winner", "mistakes", "leaderboard.csv")
    shown = Parsed(render(gather(run)))
    assert {"front", "race", "leaderboard", "provenance"} <= shown.sections
    assert not {"networks", "use", "blocks", "mistakes"} & shown.sections
    assert f"mnas resume {run.folder}" in shown.text


def test_before_the_race_with_a_torn_line(done: Result, tmp_path: Path) -> None:
    run = cut(done, tmp_path / "run", "winner", "races.jsonl", "leaderboard.csv", searched=False)
    with run.trials_path.open("a") as file:
        file.write('{"number": 99')
    before = run.trials_path.read_bytes()
    shown = Parsed(render(gather(run)))
    assert {"front", "leaderboard"} <= shown.sections and "race" not in shown.sections
    assert run.trials_path.read_bytes() == before, "another process may be writing it"


def test_before_the_first_trial(done: Result, tmp_path: Path) -> None:
    run = cut(
        done, tmp_path / "run", "winner", "races.jsonl", "leaderboard.csv", "trials.jsonl", "random_trials.jsonl", "tb",
        searched=False,
    )  # fmt: skip
    shown = Parsed(render(gather(run)))
    assert shown.sections == {"provenance"}
    assert "No candidate has been evaluated yet" in shown.text


def changed(run: Run, **config: Any) -> Run:
    """The run with other values in its configuration."""
    document = yaml.safe_load(run.config_path.read_text())
    document["config"].update(config)
    run.config_path.write_text(yaml.safe_dump(document))
    return run


def test_several_budgets(done: Result, tmp_path: Path) -> None:
    run = changed(cut(done, tmp_path / "run"), budgets_ms=[0.3, 0.6, 0.9])
    for budget in ("0.3", "0.6"):
        folder = run.winners / f"{budget}ms"
        shutil.copytree(run.winner, folder)
        metrics = (folder / "metrics.json").read_text().replace('"name": "winner"', f'"name": "winner-{budget}ms"')
        (folder / "metrics.json").write_text(metrics)
    shown = Parsed(render(gather(run)))
    assert len(shown.all("h2")) == len(shown.sections) + 2
    assert {"networks", "blocks", "mistakes", "race"} <= shown.sections
    assert "1 budget of 3 without a winner" in shown.text
    for budget in ("0.3", "0.6"):
        assert f"Budget {budget} ms" in shown.text and f"winner-{budget}ms" in shown.text
        assert str(run.winners / f"{budget}ms") in shown.text


@pytest.mark.parametrize(("name", "kind", "published"), [
    ("mobilenet_v3_small@0.5:32", "reference", True), ("shallow mobilenet_v3_small@0.5:32", "found", False),
])  # fmt: skip
def test_a_winner_without_a_trial(done: Result, tmp_path: Path, name: str, kind: str, published: bool) -> None:
    run = cut(done, tmp_path / "run")
    metrics = json.loads((run.winner / "metrics.json").read_text())
    metrics["search"] |= {"winner": name, "chosen_trial": None}
    metrics["search"]["race"]["contenders"].append({"name": name, "kind": kind})
    (run.winner / "metrics.json").write_text(json.dumps(metrics))
    shown = Parsed(render(gather(run))).text
    assert (f"published network {name} was handed over" in shown) == published
    assert (f"The winner ({name}, 32 px)" in shown) != published


def test_several_devices(done: Result, tmp_path: Path) -> None:
    targets = [{"runtime": "torch", "latency_ms": 0.6}, {"runtime": "litert", "latency_ms": 3.0}]
    run = changed(cut(done, tmp_path / "run"), targets=targets)
    metrics = json.loads((run.winner / "metrics.json").read_text())
    for row in metrics["networks"]:
        row["latencies"].append({
            **row["latencies"][0], "runtime": "litert", "device": "<a phone>", "latency_ms": 4.25, "how": "predicted",
            "keeps": False, "budget_ms": 3.0,
        })  # fmt: skip
    (run.winner / "metrics.json").write_text(json.dumps(metrics))
    shown = Parsed(render(gather(run)))
    assert "does NOT keep the budget of 3 ms" in shown.text and "<a phone>" in shown.text
    assert "within 0.6 and 3 ms" in shown.text


def test_a_large_run_has_a_small_page(done: Result, tmp_path: Path) -> None:
    run = cut(done, tmp_path / "run")
    trial = next(one for one in done.trials if one.state == "complete").to_json()
    lines = [
        {**trial, "number": number, "accuracy": 0.5 + number % 97 / 200, "latency_ms": 0.2 + number / 5000}
        for number in range(3000)
    ]
    run.trials_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    metrics = json.loads((run.winner / "metrics.json").read_text())
    classes = [f"a rather long name of class {number}" for number in range(100)]
    metrics["confusion"]["matrix"] = [[(row + column) % 3 for column in range(100)] for row in range(100)]
    (run.winner / "metrics.json").write_text(json.dumps(metrics))
    steps = json.loads((run.winner / "preprocessing.json").read_text())
    (run.winner / "preprocessing.json").write_text(json.dumps({**steps, "classes": classes}))
    page = render(gather(run))
    assert len(page) < 1_000_000
    shown = Parsed(page)
    front = [one for one in shown.all("circle") if (one["class"], one["r"]) == ("point front", "5.5")]
    assert len(front) == len(front_of([Trial.from_json(line) for line in lines]))
    assert len([one for one in shown.all("circle") if one["class"] == "point trial"]) <= 800


# --- what others write


def test_a_benchmark_is_read_tolerantly(done: Result, tmp_path: Path) -> None:
    run = cut(done, tmp_path / "run")
    path = run.winner / "benchmark.json"
    assert "formats" not in Parsed(render(gather(run))).sections
    rows = [
        {"format": "onnx", "precision": "fp32", "file": "model.onnx", "bytes": 1_234_567, "latency_ms": 1.5,
         "latency_interval_ms": [1.4, 1.6], "top1": 0.975, "agreement": 1.0, "largest_difference": 1.5e-6,
         "status": "ok", "files": ["model.onnx"]},
        {"format": "onnx", "precision": "int8", "files": ["model_int8.onnx"], "latency_ms": 1.0,
         "latency_interval_ms": [0.998, 1.002], "of_float32": 0.67, "pays": False, "status": "ok",
         "float_operators": {"HardSigmoid": 9}, "kept_in_float": ["stem.conv"], "accuracy_lost": 0.03},
        {"format": "litert", "precision": "int8", "latency_ms": None, "status": "failed: <b>differs</b>"},
        "no row",
    ]  # fmt: skip
    for content in (rows, {"rows": rows}):
        path.write_text(json.dumps(content))
        shown = Parsed(render(gather(run)))
        assert "formats" in shown.sections
        for expected in (
            "1.23", "1.40 to 1.60", "0.998 to 1.002", "97.50%", "2e-06", "litert int8: failed: <b>differs</b>",
            "model_int8.onnx", "0.67 of float32's time", "9 HardSigmoid", "stem.conv", "3.0 points",
        ):  # fmt: skip
            assert expected in shown.text
    path.write_text("{")
    assert "formats" not in Parsed(render(gather(run))).sections


def test_no_password_is_shown(done: Result, tmp_path: Path) -> None:
    run = cut(done, tmp_path / "run")
    text = run.config_path.read_text()
    run.config_path.write_text(text.replace("storage: null", "storage: postgresql://me:secret@host/db"))
    shown = render(gather(run))
    assert "postgresql://me:***@host/db" in shown and "secret" not in shown


# --- the command


def test_the_command(done: Result, mnas: Mnas, tmp_path: Path) -> None:
    written = tmp_path / "page.html"
    answer = mnas("report", done.folder, "-o", written, "--json").json
    assert answer == {"folder": str(done.folder), "report": str(written), "bytes": written.stat().st_size}
    assert written.read_text() == (done.folder / "report.html").read_text()
    assert mnas("report", done.folder).out.strip() == str(done.folder / "report.html")


@pytest.mark.parametrize("damaged", ["trials.jsonl", "winner/metrics.json", "races.jsonl", "config.yaml"])
def test_a_damaged_file_is_named(done: Result, mnas: Mnas, tmp_path: Path, damaged: str) -> None:
    run = cut(done, tmp_path / "run")
    (run.folder / damaged).write_text("{]\n")
    refused = mnas("report", run.folder)
    assert refused.code == 2
    assert Path(damaged).name in refused.err and refused.err.count("\n") == 1


def test_what_is_no_run_is_refused(done: Result, mnas: Mnas, tmp_path: Path) -> None:
    assert mnas("report", tmp_path).code == 2
    (tmp_path / "page.html").write_text("mine")
    assert mnas("report", done.folder, "-o", "page.html").code == 2
    assert (tmp_path / "page.html").read_text() == "mine"


def test_a_failing_report_does_not_fail_the_search(
    done: Result, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, content: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mnas.report.page.write_atomic", full)
    report_after(Run(done.folder))
    assert "No space left on device" in caplog.text


def test_a_supernet_alone_has_no_report(done: Result, tmp_path: Path) -> None:
    run = changed(cut(done, tmp_path / "run"), supernet_alone=True)
    with pytest.raises(BadInput, match="supernet"):
        gather(run)
