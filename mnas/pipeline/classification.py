"""Searches for classifiers: their images, their judgements image by image, their winners' files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnas.config import Recipe, RunConfig
from mnas.data.near_duplicates import warn_of_near_duplicates
from mnas.data.sources import DATA_SETS, ImageData
from mnas.export.folder import write_metrics, write_model
from mnas.io.names import file_stem
from mnas.nn.network import Network
from mnas.pipeline.context import Context, config_data, make_trainer, run_data
from mnas.pipeline.evidence import accuracy_row, evidence
from mnas.pipeline.kind import Judged
from mnas.pipeline.metrics import accuracy_facts, warn_of_majority
from mnas.pipeline.mistakes import write_mistakes
from mnas.pipeline.quantised import FORMATS, write_quantised
from mnas.run import Run
from mnas.space.space import SearchSpace
from mnas.study.trial import standard_error
from mnas.training.full import Trained
from mnas.training.judgement import Judgement
from mnas.training.trainer import Trainer


class ClassificationSearch:
    """The `SearchKind` of images in classes."""

    head = None
    figure = "accuracy"
    data_sets = DATA_SETS
    usual_data = "digits"
    shared = True
    recipes: Mapping[str, Any] = {}

    def check(self, config: RunConfig) -> None:
        pass

    def open(self, config: RunConfig) -> ImageData:
        return config_data(config)

    def data(self, run: Run, config: RunConfig, override: Any, space: SearchSpace | None) -> ImageData:
        return run_data(run, config, override, space)

    def trainer(self, config: RunConfig, space: SearchSpace, data: ImageData) -> Trainer:
        return make_trainer(config, space, data)

    def judge(self, trained: Trained, trainer: Trainer) -> Judgement:
        return trainer.judge(trained.network, trained.architecture, "test", exact=True)

    def row(self, network: Judged[Judgement]) -> dict[str, Any]:
        return {**accuracy_row(network), "val_accuracy": network.trained.val_accuracy}

    def spread(self, network: Judged[Judgement]) -> float | None:
        first = network.judgements[0]
        return 1.96 * standard_error(first.accuracy, len(first)) if len(first) else None

    def write(self, folder: Path, winner: Trained, context: Context, title: str) -> None:
        data = context.trainer.data
        assert isinstance(winner.network, Network)
        write_model(folder, winner, data, title=title)
        for runtime in {device.conditions.runtime for device in context.latency.devices} & FORMATS.keys():
            write_quantised(runtime, data, winner.network, winner.architecture, folder)

    def facts(self, context: Context, networks: Sequence[Judged[Judgement]], recipe: Recipe) -> dict[str, Any]:
        trainer, config = context.trainer.at_full_size(), context.config
        return {
            "accuracy": accuracy_facts(trainer, recipe, networks[0].trained.architecture.resolution) | {
                "source": config.data, "max_broken": config.max_broken, "labels": config.labels,
            },
            **evidence(networks[0], networks[1:], trainer.data.classes, trainer.metric),
        }  # fmt: skip

    def write_metrics(self, folder: Path, metrics: dict[str, Any], trainer: Trainer) -> None:
        write_metrics(folder, metrics, trainer.data.classes)

    def show(self, context: Context, networks: Sequence[Judged[Judgement]], metrics: Mapping[str, Any]) -> None:
        winner, judgement, data = networks[0].trained, networks[0].judgements[0], context.trainer.data
        context.board.confusion(winner.name, judgement.confusion, data.classes)
        warn_of_majority(metrics["networks"][0], metrics["majority_share"])
        if metrics["networks"][0]["role"] == "winner":
            write_mistakes(
                context.run.mistakes / f"{file_stem(winner.name)}.json", judgement, data.test, data.classes,
                winner.architecture.resolution,
            )  # fmt: skip

    def end(self, context: Context) -> None:
        data = context.trainer.data
        if DATA_SETS.path(context.config.data) is not None:
            warn_of_near_duplicates(data.train, data.test, "test")
