"""The candidates: networks in every precision and placement, each with a name and the commands that make it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...core.choices import Place, Precision
from ...core.errors import CheckpointError, OptionError, SelectionError
from ...core.reporter import Reporter
from ...core.types import Preprocessing, Weights
from ..load import Network, load, load_demo
from ..placement import Target

WIDTHS = {Precision.FP32: 2, Precision.FP16: 1}  # 8 bits: 0


@dataclass(frozen=True, slots=True)
class NetworkChoice:
    """A network to make files of: a checkpoint, None for the demo model, its selections, and clips of fewer frames.

    One that is to be `distilled` does not know yet what to select: until it is, its selectors are random.
    """

    checkpoint: Path | None = None
    selections: str | None = None
    frames: int | None = None
    distilled: bool = False

    def load(self, labels: Path | str | None) -> Network:
        """Load it; raises as `dualexport.load` does."""
        selections, untrained = self.selections, self.distilled
        if self.checkpoint is None:
            network = load_demo(selections=selections, labels=labels, untrained_selector=untrained)
        else:
            network = load(self.checkpoint, selections=selections, labels=labels, untrained_selector=untrained)
        return network if self.frames is None else network.with_clips(self.frames)

    @property
    def source(self) -> tuple[str, str]:
        """The argument that names the checkpoint."""
        return ("--model", "demo") if self.checkpoint is None else ("--checkpoint", str(self.checkpoint))

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments of `dualexport onnx` that name it."""
        return (
            *self.source,
            *(("--stts", self.selections) if self.selections else ()),
            *(("--frames", str(self.frames)) if self.frames is not None else ()),
        )


@dataclass(frozen=True, slots=True)
class TunedNetwork:
    """A network that candidates are made of, without its parameters; `name` is unique among those of one run."""

    choice: NetworkChoice
    name: str
    weights: Weights
    preprocessing: Preprocessing
    classes: int
    labels: tuple[str, ...]
    macs: int


@dataclass(frozen=True, slots=True)
class Form:
    """The precision of a file, and for 8 bits the layers that have them and the precision around them.

    With `agreement` the worst layers are kept out of 8 bits until the best class agrees with FP32 on that share of
    clips.
    """

    precision: Precision
    target: Target | None = None
    base: Precision = Precision.FP16
    agreement: float | None = None

    @property
    def name(self) -> str:
        target = () if self.target is None else (self.target.name,)
        return "-".join((self.precision.value, *target, *(() if self.agreement is None else (f"{self.agreement:g}",))))

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments of `dualexport int8` that choose it."""
        if self.target is None:
            return ()
        option = "--device" if self.target.place is Place.DEVICE else "--place"
        base = ("--base", self.base.value) if self.base is not Precision.FP16 else ()
        kept = () if self.agreement is None else ("--target-agreement", f"{self.agreement:g}")
        return (option, self.target.name, *base, *kept)


@dataclass(frozen=True, slots=True)
class Sources:
    """The clips that candidates are judged on, calibrated on, and that distilled ones learn from."""

    judge: Path | str
    calibrate: Path | str | None = None
    train: Path | str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network in one form, for so many clips an inference."""

    network: TunedNetwork
    form: Form
    batch: int = 1

    @property
    def name(self) -> str:
        """`dualformer-b-T0_0.5.int8-free`."""
        return f"{self.network.name}.{self.form.name}"

    @property
    def width(self) -> int:
        """The order of types, the wider the larger."""
        return WIDTHS.get(self.form.precision, 0)

    def list_steps(self, clips: Sources, *, engine: bool) -> tuple[str, ...]:
        """The commands that make it: distillation, export, calibration, and on the device the engine."""
        folder, precision, choice = self.network.name, self.form.precision.value, self.network.choice
        batch = ("--batch", str(self.batch)) if self.batch > 1 else ()
        steps: list[tuple[str, ...]] = []
        if choice.distilled:
            file, stts = f"{folder}.safetensors", str(choice.selections)
            steps.append(("distill", *choice.source, "--stts", stts, "--clips", str(clips.train), "-o", file))
            choice = replace(choice, checkpoint=Path(file))
        steps.append(("onnx", *choice.arguments, "--input", "uint8", *batch, "--clips", str(clips.judge), "-o", folder))
        if self.form.target is not None:
            steps.append((precision, folder, "--clips", str(clips.calibrate), *self.form.arguments))
        if engine:
            steps.append(("trt", folder, f"--{precision}"))
        return tuple(shlex.join(("dualexport", *step)) for step in steps)


def list_networks(
    choices: Sequence[NetworkChoice], labels: Path | str | None, reporter: Reporter
) -> tuple[TunedNetwork, ...]:
    """Load each network once. One that its checkpoint has no selectors for is left out with a note.

    Raises CheckpointError, SelectionError and OptionError for a checkpoint of which nothing is left.
    """
    found: list[TunedNetwork] = []
    for choice in choices:
        reporter(f"looking at {choice.checkpoint or 'the demo model'}")
        try:
            network = choice.load(labels)
        except (CheckpointError, SelectionError, OptionError) as error:
            if choice.selections is None and choice.frames is None:
                raise
            reporter.note(f"left out: {' '.join(choice.arguments)}: {error}")
            continue
        config = network.module.config
        found.append(
            TunedNetwork(
                *(choice, network.name + "-distilled" * choice.distilled, network.weights, config.preprocessing),
                *(config.classes, network.labels, network.macs),
            )
        )
    return tuple(_name_apart(found))


def _name_apart(networks: Sequence[TunedNetwork]) -> Iterator[TunedNetwork]:
    """Networks of one size and several checkpoints have the file's name in theirs."""
    counts = Counter(network.name for network in networks)
    for network in networks:
        path = network.choice.checkpoint
        alone = counts[network.name] == 1 or path is None
        yield network if alone or path is None else replace(network, name=f"{network.name}-{path.stem}")


def list_candidates(networks: Sequence[TunedNetwork], forms: Sequence[Form], batch: int) -> tuple[Candidate, ...]:
    """Every network in every form; the first network in FP32, which is the reference, comes first in any case."""
    reference = Form(Precision.FP32)
    made = [Candidate(network, form, batch) for network in networks for form in forms]
    first = Candidate(networks[0], reference, batch)
    return (first, *(one for one in made if one != first))


def list_forms(
    precisions: Sequence[Precision],
    places: Sequence[Place],
    agreements: Sequence[float],
    device: str | None,
    base: Precision,
) -> tuple[Form, ...]:
    """Each precision, 8 bits with every placement that there is for the device, around layers in `base`.

    For each of `agreements` also all layers but the worst.
    """
    forms = [Form(precision) for precision in precisions if not precision.is_eight_bit]
    for precision in (one for one in precisions if one.is_eight_bit):
        for place in places:
            if place is not Place.DEVICE:
                forms.append(Form(precision, Target.choose(place, None, base), base))
            elif device is not None:
                forms.append(Form(precision, Target.choose(place, device, base), base))
        every = Target.choose(Place.ALL, None, base)
        forms += [Form(precision, every, base, agreement) for agreement in agreements]
    return tuple(forms)
