"""An estimate of an engine's latency on a device that is not there, from the device's published peaks.

The estimate of a layer is the larger of the time its bytes take at the full memory bandwidth and the time its products
take at the full dense tensor-core rate; layers follow one another. It leaves out launch overhead, caches, clocks below
the maximum and kernels short of the peak, so a measured latency is higher: it serves to compare plans and to tell which
layers matter, not to promise a latency.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...core.choices import DeviceName, Precision
from ...core.errors import PlanError
from .plan import EnginePlan, PlanLayer

ASSUMPTIONS = (
    "Each layer takes the larger of bytes / memory bandwidth and operations / dense tensor-core peak, one layer after "
    "another; weights are read once per inference; FP32 products run in TF32, TensorRT's default. Launch overhead, "
    "caches and real clocks are left out: expect a measured latency above the estimate, and use it to compare plans."
)


@dataclass(frozen=True, slots=True)
class Device:
    """Published peaks of a device: memory bandwidth in GB/s, dense tensor-core rates in tera-operations per second.

    A multiply-accumulate is two operations. `fp32_tops` is the TF32 rate, `fp8_tops` with sums in FP32; None without.
    """

    name: DeviceName
    title: str
    bandwidth_gb_s: float
    fp32_tops: float
    fp16_tops: float
    int8_tops: float
    fp8_tops: float | None = None

    def peak_tops(self, precision: Precision) -> float:
        """Dense rate of products in `precision`; raises PlanError for FP8 on a device without it."""
        if precision is Precision.FP8:
            return self.require_fp8()
        rates = {Precision.FP32: self.fp32_tops, Precision.FP16: self.fp16_tops, Precision.INT8: self.int8_tops}
        return rates[precision]

    def require_fp8(self) -> float:
        """The dense rate of FP8; raises PlanError where there is none."""
        if self.fp8_tops is None:
            raise PlanError(
                f"{self.title} has no FP8: tensor cores have it from Ada (8.9) and Hopper (9.0) on",
                fix="take INT8 for this device, or name another one",
            )
        return self.fp8_tops


# The Jetson documents give INT8 with 2:4 sparsity; dense is half of it, FP16 half of INT8, and TF32 half of FP16, the
# ratios of the Ampere (GA100) and Blackwell tensor cores that these GPUs have.
DEVICES = {
    device.name: device
    for device in (
        # Jetson Orin Nano Series data sheet (DS-11105-001): 68 GB/s, 40 sparse INT8 TOPS at 625 MHz (15 W).
        Device(DeviceName.ORIN_NANO, "Jetson Orin Nano 8GB (15 W)", 68.0, 5.0, 10.0, 20.0),
        # The same in the 25 W mode of JetPack 6.2 ("Super"): 102 GB/s, 67 sparse INT8 TOPS at 1020 MHz.
        Device(DeviceName.ORIN_NANO_25W, "Jetson Orin Nano 8GB (25 W)", 102.0, 8.375, 16.75, 33.5),
        # Jetson Orin NX Series data sheet (DS-10712-001): 102.4 GB/s; 1024 cores at 918 MHz, of whose 100 TOPS the GPU
        # has 60 sparse INT8 and the two DLAs the rest.
        Device(DeviceName.ORIN_NX, "Jetson Orin NX 16GB", 102.4, 7.5, 15.0, 30.0),
        # Jetson AGX Orin Series technical brief (v1.2): 204.8 GB/s; 170 sparse INT8 TOPS on the GPU at 1.3 GHz.
        Device(DeviceName.AGX_ORIN, "Jetson AGX Orin 64GB", 204.8, 21.25, 42.5, 85.0),
        # Jetson Thor Series Modules data sheet, T5000: 273 GB/s; 2070 sparse FP4 TFLOPS, so 1035 dense FP4, 517 dense
        # FP8 (and INT8, which 5th-generation tensor cores run at the FP8 rate), 258 dense FP16.
        Device(DeviceName.THOR, "Jetson T5000 (AGX Thor)", 273.0, 129.0, 258.0, 517.0, 517.0),
        # NVIDIA Ada GPU Architecture white paper, GeForce RTX 4090: 1008 GB/s; dense TF32 82.6, FP16 with FP32
        # accumulation 165.2, INT8 660.6, FP8 with FP32 accumulation 330.3.
        Device(DeviceName.RTX_4090, "GeForce RTX 4090", 1008.0, 82.6, 165.2, 660.6, 330.3),
        # NVIDIA L4 Tensor Core GPU data sheet: 300 GB/s; with sparsity TF32 120, FP16 242, INT8 and FP8 485; dense is
        # half.
        Device(DeviceName.L4, "L4", 300.0, 60.0, 121.0, 242.5, 242.5),
        # NVIDIA A100 Tensor Core GPU data sheet, A100 80GB SXM: 2039 GB/s; dense TF32 156, FP16 312, INT8 624.
        Device(DeviceName.A100, "A100 80GB SXM", 2039.0, 156.0, 312.0, 624.0),
        # NVIDIA H100 Tensor Core GPU data sheet, H100 SXM: 3.35 TB/s; with sparsity TF32 989, FP16 1979, INT8 and FP8
        # 3958; dense is half.
        Device(DeviceName.H100, "H100 SXM", 3350.0, 494.5, 989.5, 1979.0, 1979.0),
        # NVIDIA H200 Tensor Core GPU data sheet, H200 SXM: 4.8 TB/s, the rates of the H100 SXM.
        Device(DeviceName.H200, "H200 SXM", 4800.0, 494.5, 989.5, 1979.0, 1979.0),
        # NVIDIA DGX B200 and HGX B200 data sheets, an eighth of each: 64 TB/s; with sparsity TF32 18 PFLOPS, FP16 36,
        # FP8 and INT8 72; dense is half.
        Device(DeviceName.B200, "B200 SXM", 8000.0, 1125.0, 2250.0, 4500.0, 4500.0),
        # NVIDIA RTX PRO 6000 Blackwell Workstation Edition data sheet: 1792 GB/s; 4000 sparse FP4 TOPS, so 2000 dense
        # FP4, 1000 FP8 and INT8, 500 FP16, 250 TF32, the ratios of NVIDIA's RTX Blackwell PRO white paper.
        Device(DeviceName.RTX_PRO_6000, "RTX PRO 6000 Blackwell", 1792.0, 250.0, 500.0, 1000.0, 1000.0),
    )
}


@dataclass(frozen=True, slots=True)
class LatencyEstimate:
    """The estimated latency of a plan on a device, in milliseconds, and of each of its layers, in the plan's order."""

    device: Device
    layers_ms: tuple[float, ...]

    @property
    def total_ms(self) -> float:
        return sum(self.layers_ms)

    def document(self) -> dict[str, Any]:
        """The estimate as a JSON document, its assumptions included."""
        return {
            "device": self.device.name.value,
            "title": self.device.title,
            "estimated_ms": self.total_ms,
            "layers_ms": list(self.layers_ms),
            "assumptions": ASSUMPTIONS,
        }


def estimate(plan: EnginePlan, device: Device) -> LatencyEstimate:
    """The latency that `device`'s published peaks would allow `plan`; see ASSUMPTIONS."""
    return LatencyEstimate(device, tuple(_estimate_layer(layer, device) for layer in plan.layers))


def _estimate_layer(layer: PlanLayer, device: Device) -> float:
    bytes_ms = (layer.moved_bytes + layer.weight_bytes) / (device.bandwidth_gb_s * 1e6)
    rate = device.peak_tops(layer.precision or Precision.FP32) * 1e9  # operations per millisecond
    return max(bytes_ms, 2 * layer.macs / rate)
