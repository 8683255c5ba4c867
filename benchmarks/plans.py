"""Plans of the plain and of the folded graph by TensorRT: one table, sizes n, t, s and b, batch 1.

Usage: python benchmarks/plans.py [--model t ...]

Needs a TensorRT; on a machine without a GPU, scripts/install-cpu-tensorrt installs one that plans. The weights are
random: a plan does not depend on them. The milliseconds are estimates, see `dualexport plan --help`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from dualexport.core.choices import DeviceName, Graph, InputType, ModelSize, Precision
from dualexport.exporter.checkpoint import build_random_network
from dualexport.exporter.onnx_export import OnnxOptions, export_onnx
from dualexport.pipeline.plan import plan_onnx
from dualexport.runtimes.plans.devices import DEVICES, estimate

VARIANTS = {
    "plain FP32": OnnxOptions(Graph.PLAIN, Precision.FP32),
    "plain FP16": OnnxOptions(Graph.PLAIN, Precision.FP16),
    "folded FP16, float32 input": OnnxOptions(Graph.FOLDED, Precision.FP16),
    "folded FP16, uint8 input": OnnxOptions(Graph.FOLDED, Precision.FP16, InputType.UINT8),
}
COLUMNS = ("size", "graph", "layers", "attentions fused", "MB moved", "of plain FP16", "AGX Orin ms", "RTX 4090 ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = [size.value for size in ModelSize]
    parser.add_argument("--model", nargs="+", default=sizes, choices=sizes)
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for size in parser.parse_args().model:
        network = build_random_network(ModelSize(size), seed=0)
        moved: dict[str, int] = {}
        for name, options in VARIANTS.items():
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "network.onnx"
                export_onnx(network, path, options, parent=None)
                plan = plan_onnx(path)
            moved[name] = plan.moved_bytes
            ratio = f"{plan.moved_bytes / moved['plain FP16']:.2f}" if "plain FP16" in moved else ""
            times = [estimate(plan, DEVICES[device]).total_ms for device in (DeviceName.AGX_ORIN, DeviceName.RTX_4090)]
            fused = f"{plan.fused_attentions} of {plan.attentions}"
            row = (size, name, str(len(plan.layers)), fused, f"{plan.moved_bytes / 1e6:.0f}", ratio)
            print("| " + " | ".join((*row, *(f"{time:.2f}" for time in times))) + " |", flush=True)


if __name__ == "__main__":
    main()
