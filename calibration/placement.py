"""The linear layers that are computed in 8 bits: chosen by a rule, or by estimated costs of compiled plans."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from ..core.errors import QuantizationError
from .linear_layers import LinearLayer

ATTENDED = ("qkv", "q", "kv")
MLP = ("fc1", "fc2")  # what is between them is written in 8 bits only where both are
LEAST_GAIN_MS = 1e-5  # of the estimate: what a change has to save

StageTimes = Mapping[str, float]  # milliseconds by stage of the network, "" for what is in none
TimeStages = Callable[[frozenset[str]], StageTimes]


@dataclass(frozen=True, slots=True)
class LayerGroup:
    """The layers of one kind in a stage, whose blocks have the same shapes: they pay together or not at all."""

    stage: str
    kind: str
    layers: frozenset[str]

    @property
    def name(self) -> str:
        return f"stage {self.stage}: {self.kind}"


@dataclass(frozen=True, slots=True)
class GroupGain:
    """The milliseconds of the estimate that a group saves in 8 bits, with the rest of the choice as it is."""

    group: str
    chosen: bool
    saved_ms: float


@dataclass(frozen=True, slots=True)
class Placement:
    """The layers to compute in 8 bits; where plans decided, both estimates and what each group saves or costs."""

    layers: frozenset[str]
    rest_ms: float | None = None
    placed_ms: float | None = None
    gains: tuple[GroupGain, ...] = ()


def free_layers(layers: Sequence[LinearLayer]) -> frozenset[str]:
    """The layers that cost no kernel and no byte in 8 bits: those that attention reads, alone on their input.

    They have no bias, so that their product ends as in FP16, and the LayerNorm before them writes half the bytes. Where
    a convolution reads that too, in FP16, it writes both.
    """
    return frozenset(layer.name for layer in layers if _kind(layer) in ATTENDED and not layer.shares_input)


def group_layers(layers: Sequence[LinearLayer]) -> tuple[LayerGroup, ...]:
    """`layers` by stage and kind, in the graph's order; fc1 and fc2 are of one kind."""
    found: dict[tuple[str, str], set[str]] = {}
    for layer in layers:
        kind = "+".join(MLP) if _kind(layer) in MLP else _kind(layer)
        key = layer.name.split(".")[1], f"{kind} beside convolutions" if layer.shares_input else kind
        found.setdefault(key, set()).add(layer.name)
    return tuple(LayerGroup(stage, kind, frozenset(names)) for (stage, kind), names in found.items())


def _kind(layer: LinearLayer) -> str:
    return layer.name.rpartition(".")[2]


def search_placement(layers: Sequence[LinearLayer], time_stages: TimeStages) -> Placement:
    """The choice from which no change of a group lowers the estimate; `time_stages` estimates a choice of layers.

    Stages hardly depend on each other, so one plan tells of a change in each of them. The search starts with the
    best of four choices in every stage: nothing, what is free, that and the MLPs, everything. Raises
    QuantizationError where nothing pays.
    """
    groups, search = group_layers(layers), _Search(time_stages, {})
    free, all_layers = free_layers(layers), frozenset(layer.name for layer in layers)
    mlps = frozenset(name for group in groups if group.kind == "+".join(MLP) for name in group.layers)
    nothing: frozenset[str] = frozenset()
    starts = (nothing, free, free | mlps, all_layers)
    best = min((*starts, search.combine(groups, starts)), key=search.total)
    while True:
        gains = search.list_gains(groups, best)
        change = search.flip_best(groups, gains)
        tried = (best ^ change, *(_flip(groups, best, kind) for kind in _list_kinds(groups)))
        better = min(tried, key=search.total)
        if search.total(better) > search.total(best) - LEAST_GAIN_MS:
            break
        best = better
    rest_ms, placed_ms = search.total(nothing), search.total(best)
    if placed_ms > rest_ms - LEAST_GAIN_MS:
        raise QuantizationError(
            f"no linear layer is worth 8 bits there: {rest_ms:.3f} ms estimated without any",
            fix="keep the FP16 file, or ask for --place free or all",
        )
    return Placement(best, rest_ms, placed_ms, tuple(sorted(gains, key=lambda gain: gain.saved_ms, reverse=True)))


@dataclass(slots=True)
class _Search:
    """Estimates of the choices that were looked at, each made once."""

    time_stages: TimeStages
    known: dict[frozenset[str], StageTimes]

    def times(self, chosen: frozenset[str]) -> StageTimes:
        if chosen not in self.known:
            self.known[chosen] = self.time_stages(chosen)
        return self.known[chosen]

    def total(self, chosen: frozenset[str]) -> float:
        return sum(self.times(chosen).values())

    def combine(self, groups: Collection[LayerGroup], choices: Collection[frozenset[str]]) -> frozenset[str]:
        """In every stage what the choice has there that is the fastest there."""
        fastest = {
            stage: min(choices, key=lambda chosen: self.times(chosen).get(stage, 0.0))
            for stage in {group.stage for group in groups}
        }
        return frozenset().union(*(group.layers & fastest[group.stage] for group in groups))

    def list_gains(self, groups: Sequence[LayerGroup], best: frozenset[str]) -> tuple[GroupGain, ...]:
        """The saving of each group: one plan for each kind, in which all stages change their mind about it."""
        gains = []
        for group in groups:
            other = self.times(_flip(groups, best, group.kind)).get(group.stage, 0.0)
            change = other - self.times(best).get(group.stage, 0.0)
            chosen = group.layers <= best
            gains.append(GroupGain(group.name, chosen, change if chosen else -change))
        return tuple(gains)

    def flip_best(self, groups: Sequence[LayerGroup], gains: Sequence[GroupGain]) -> frozenset[str]:
        """The layers to change: in each stage those of the group whose change saves most there, if one does."""
        changes: dict[str, tuple[float, LayerGroup]] = {}
        for group, gain in zip(groups, gains, strict=True):
            saved = -gain.saved_ms if gain.chosen else gain.saved_ms
            if saved > max(LEAST_GAIN_MS, changes[group.stage][0] if group.stage in changes else 0.0):
                changes[group.stage] = saved, group
        return frozenset().union(*(group.layers for _, group in changes.values()))


def _list_kinds(groups: Sequence[LayerGroup]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(group.kind for group in groups))


def _flip(groups: Sequence[LayerGroup], chosen: frozenset[str], kind: str) -> frozenset[str]:
    """The choice in which every stage has the other opinion of the layers of this kind; groups are whole."""
    return chosen ^ frozenset().union(*(group.layers for group in groups if group.kind == kind))
