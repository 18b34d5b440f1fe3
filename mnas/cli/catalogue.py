"""What there is: settings, search spaces, reference networks and their weights, and what this machine has."""

from __future__ import annotations

from typing import Annotated

import typer

from mnas.cli.options import Json, one_size
from mnas.cli.output import print_table, show


def config(as_json: Json = False) -> None:
    """Every setting of a search with its default and what it does, as in a run's config.yaml; see `search --set`.

    Example: mnas config
    """
    from mnas.commands import configuration

    defaults = configuration.default_config()
    show(defaults.model_dump(mode="json"), as_json, lambda: typer.echo(configuration.commented(defaults), nl=False))


def spaces(
    name: Annotated[str | None, typer.Argument(metavar="[SPACE]", help="One space, with all its choices.")] = None,
    as_json: Json = False,
) -> None:
    """The search spaces: how many networks, which choices, which reference.

    Example: mnas spaces v3_large
    """
    from mnas.commands import catalogue
    from mnas.io.presets import preset_names

    listed = catalogue.spaces([name] if name else preset_names("search_spaces"))

    def table() -> None:
        if name:
            space = listed[0]
            typer.echo(f"{space['name']}: {space['size']:.4g} networks; reference {space['reference']}")
            rows = [[choice, ", ".join(map(str, options))] for choice, options in space["choices"].items()]
            print_table("choices of the deepest network", ["choice", "options"], rows)
        else:
            rows = [
                [space["name"], f"{space['size']:.3g}", len(space["choices"]), space["reference"]] for space in listed
            ]
            print_table("search spaces", ["space", "networks", "choices", "reference"], rows)

    show(listed[0] if name else {"spaces": listed}, as_json, table)


def zoo(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One network, layer by layer, as YAML.")] = None,
    width: Annotated[float, typer.Option(help="Width multiplier.")] = 1.0,
    resolution: Annotated[str, typer.Option(metavar="PX", help="Input size, of a rectangle HEIGHTxWIDTH.")] = "224",
    as_json: Json = False,
) -> None:
    """The reference networks with parameters and multiply-adds, and their published weights.

    Example: mnas zoo mobilenet_v3_large --width 0.75
    """
    from mnas.commands import catalogue
    from mnas.space import zoo as references

    size = one_size(resolution) or 224
    if name:
        arch = references.get(name, width, size)
        show(arch.to_dict(), as_json, lambda: typer.echo(arch.to_yaml(), nl=False))
        return
    rows = catalogue.zoo_table(width, size)
    shown = [[r["name"], f"{r['params']:,}", f"{r['madds'] / 1e6:,.2f} M"] for r in rows]
    weights = catalogue.published_weights()

    def tables() -> None:
        title = f"reference networks, width {width:g}, {resolution} px, 1000 classes"
        print_table(title, ["name", "parameters", "MAdds"], shown)
        published = [
            [
                one["network"] or f"space {one['space']}", one["name"], f"{one['top1']:.2f}%" if one["top1"] else "",
                one["trained_on"], one["licence"],
            ]
            for one in weights
        ]  # fmt: skip
        print_table("published weights (--pretrained NAME); of each network the first ones are the default",
                    ["network", "name", "top-1", "trained on", "licence"], published)

    show({"networks": rows, "weights": weights}, as_json, tables)


def doctor(as_json: Json = False) -> None:
    """Versions, devices, runtimes, and what is missing with the command that installs it.

    Example: mnas doctor
    """
    from mnas.commands.doctor import doctor as examine

    machine = examine()

    def table() -> None:
        print_table("versions", ["package", "version"], [list(item) for item in machine["versions"].items()])
        others = [["cuda", gpu] for gpu in machine["gpus"]] + [["mps", "Apple GPU"]] * ("mps" in machine["devices"])
        print_table("devices", ["device", "what"], [["cpu", machine["device"]], *others])
        runtimes = machine["runtimes"]
        versions = [[one["name"], one["version"] or one["missing"]] for one in runtimes]
        print_table("runtimes", ["runtime", "version"], versions)
        slow = [[one["name"], one["slow"]] for one in runtimes if one["slow"]]
        print_table("known to be slow", ["runtime", "what"], slow)
        if machine["missing"]:
            print_table("not installed", ["package", "for", "install"], [list(m.values()) for m in machine["missing"]])

    show(machine, as_json, table)
