"""From a parsed cfg to layers that fit together, or to the list of everything that is wrong with it.

Nothing is allocated here: ``darkpy net check`` and ``darkpy net summary`` go no further than this.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from darkpy.config.net import NetOptions, check_net
from darkpy.config.options import CommonOptions, parse_options
from darkpy.errors import ConfigError, Problem, suggestion
from darkpy.layers.base import Graph, Layer, registered

if TYPE_CHECKING:
    from darkpy.backends.base import Backend
    from darkpy.config.cfg import Config, Section

REFUSED_SECTIONS = {
    "history": "it stacks the frames of a training sequence, and even Darknet does not when it detects",
    "iseg": "there are no masks of objects to learn from",
}
"""Sections that a Darknet knows, no published cfg uses, and that are not available, with the reason."""


@dataclass
class Blueprint:
    """A network that is known to be possible: its [net] options, its layers, and remarks on ineffective keys."""

    config: Config
    options: NetOptions
    graph: Graph
    layers: list[Layer]
    warnings: list[Problem] = field(default_factory=list)


def build(config: Config, backend: Backend) -> Blueprint:
    """Check every section, option and shape of a cfg.

    Raises :class:`ConfigError` with all problems found. A layer whose inputs are themselves at fault is not
    judged, so that one mistake gives one message.
    """
    problems: list[Problem] = []
    warnings: list[Problem] = []
    options = parse_options(NetOptions, config.net, problems, warnings)
    if options is None:
        # The layers can still be checked for their own keys; shapes cannot.
        for section in config.layers:
            _parse_layer(section, problems, warnings)
        raise ConfigError(problems=problems)
    check_net(options, config.net, problems, warnings)
    graph = Graph(backend, _input_shape(options), problems=problems, warnings=warnings, net_options=options)
    for index, section in enumerate(config.layers):
        graph.layers.append(_build_layer(section, index, graph, warnings))
    if not config.layers:
        problems.append(Problem(f"{config.net.file}:{config.net.line}", "[net] stands alone: the cfg has no layers"))
    if problems:
        raise ConfigError(problems=_in_order(problems, config))
    return Blueprint(config, options, graph, [layer for layer in graph.layers if layer is not None], warnings)


def _input_shape(options: NetOptions) -> tuple[int, int, int]:
    if options.width and options.height:
        return options.channels, options.height, options.width
    return options.inputs, 1, 1


def _parse_layer(
    section: Section, problems: list[Problem], warnings: list[Problem]
) -> tuple[type[Layer] | None, CommonOptions | None]:
    known = registered()
    layer_type = known.get(section.name)
    if layer_type is None:
        reason = REFUSED_SECTIONS.get(section.name)
        hint = suggestion(section.name, known) or "; if it is a layer of your own, name its file with --plugin"
        unknown = f"is not a known section{hint}"
        message = f"is not supported: {reason}" if reason else unknown
        problems.append(Problem(f"{section.file}:{section.line}", f"[{section.name}] {message}"))
        return None, None
    return layer_type, parse_options(layer_type.Options, section, problems, warnings)


def _build_layer(section: Section, index: int, graph: Graph, warnings: list[Problem]) -> Layer | None:
    layer_type, options = _parse_layer(section, graph.problems, warnings)
    if layer_type is None or options is None:
        return None
    return layer_type(options, section, index, graph)


def _in_order(problems: list[Problem], config: Config) -> list[Problem]:
    """Problems by line, each once."""

    def line(problem: Problem) -> int:
        number = problem.where.rpartition(":")[2]
        return int(number) if number.isdigit() else 0

    return sorted(dict.fromkeys(problems), key=line)


def with_batch(options: NetOptions, batch: int) -> NetOptions:
    """The same options with another number of pictures per update."""
    return replace(options, batch=batch)
