"""The linear layers that are computed in 8 bits: chosen by a rule, or by the times of compiled choices."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ..core.errors import QuantizationError
from .linear_layers import LinearLayer

ATTENDED = ("qkv", "q", "kv")
MLP = ("fc1", "fc2")  # what is between them is written in 8 bits only where both are

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
    """The milliseconds that a group saves in 8 bits, with the rest of the choice as it is."""

    group: str
    chosen: bool
    saved_ms: float


@dataclass(frozen=True, slots=True)
class Placement:
    """The layers to compute in 8 bits; where times decided, both and what each group saves or costs.

    The times are those of all in FP16 and of this choice: estimates, or measured on `gpu`.
    """

    layers: frozenset[str]
    rest_ms: float | None = None
    placed_ms: float | None = None
    gains: tuple[GroupGain, ...] = ()
    gpu: str | None = None


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


def search_placement(layers: Sequence[LinearLayer], time_stages: TimeStages, least_gain: float) -> Placement:
    """The choice from which no change of a group lowers the time; `time_stages` tells that of a choice of layers.

    A group that saves no more than the share `least_gain` of the unquantized time is not worth 8 bits. Stages hardly
    depend on each other, so one plan tells of a change in each of them. The search starts with the best of four choices
    in every stage: nothing, what is free, that and the MLPs, everything. Raises QuantizationError where nothing pays.
    """
    groups, free, nothing = group_layers(layers), free_layers(layers), frozenset[str]()
    mlps = frozenset(name for group in groups if group.kind == "+".join(MLP) for name in group.layers)
    starts = (nothing, free, free | mlps, frozenset(layer.name for layer in layers))
    search = _Search(groups, time_stages)
    search.price_ms = least_gain * search.total(nothing)
    best = min((*starts, search.combine(starts)), key=search.cost)
    while True:
        gains = search.list_gains(best)
        tried = (best ^ search.flip_best(gains), *(search.flip(best, kind) for kind in search.kinds))
        better = min(tried, key=search.cost)
        if search.cost(better) >= search.cost(best):
            break
        best = better
    rest_ms = search.total(nothing)
    if not best:
        raise QuantizationError(
            f"no linear layer is worth 8 bits there: {rest_ms:.3f} ms without any",
            fix="keep the FP16 file, or ask for --place free or all",
        )
    by_gain = sorted(gains, key=lambda gain: gain.saved_ms, reverse=True)
    return Placement(best, rest_ms, search.total(best), tuple(by_gain))


@dataclass(slots=True)
class _Search:
    """Times of the choices that were looked at, each asked for once; a group in 8 bits has a price besides."""

    groups: tuple[LayerGroup, ...]
    time_stages: TimeStages
    price_ms: float = 0.0
    known: dict[frozenset[str], StageTimes] = field(default_factory=dict)

    def times(self, chosen: frozenset[str]) -> StageTimes:
        if chosen not in self.known:
            self.known[chosen] = self.time_stages(chosen)
        return self.known[chosen]

    def total(self, chosen: frozenset[str]) -> float:
        return sum(self.times(chosen).values())

    def cost(self, chosen: frozenset[str]) -> float:
        """The time of a choice, and the price of its groups."""
        return self.total(chosen) + self.price_ms * sum(group.layers <= chosen for group in self.groups)

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(group.kind for group in self.groups))

    def combine(self, choices: Collection[frozenset[str]]) -> frozenset[str]:
        """In every stage what the choice has there that is the fastest there."""
        fastest = {
            stage: min(choices, key=lambda chosen: self.times(chosen).get(stage, 0.0))
            for stage in {group.stage for group in self.groups}
        }
        return frozenset().union(*(group.layers & fastest[group.stage] for group in self.groups))

    def flip(self, chosen: frozenset[str], kind: str) -> frozenset[str]:
        """The choice in which every stage has the other opinion of the layers of this kind; groups are whole."""
        return chosen ^ frozenset().union(*(group.layers for group in self.groups if group.kind == kind))

    def list_gains(self, best: frozenset[str]) -> tuple[GroupGain, ...]:
        """The saving of each group: one plan for each kind, in which all stages change their mind about it."""
        gains = []
        for group in self.groups:
            other = self.times(self.flip(best, group.kind)).get(group.stage, 0.0)
            change = other - self.times(best).get(group.stage, 0.0)
            chosen = group.layers <= best
            gains.append(GroupGain(group.name, chosen, change if chosen else -change))
        return tuple(gains)

    def flip_best(self, gains: Sequence[GroupGain]) -> frozenset[str]:
        """The layers to change: in each stage those of the group whose change lowers the cost most, if one does."""
        changes: dict[str, tuple[float, LayerGroup]] = {}
        for group, gain in zip(self.groups, gains, strict=True):
            worth = self.price_ms - gain.saved_ms if gain.chosen else gain.saved_ms - self.price_ms
            if worth > (changes[group.stage][0] if group.stage in changes else 0.0):
                changes[group.stage] = worth, group
        return frozenset().union(*(group.layers for _, group in changes.values()))
