"""A verification as a JSON document, with everything in it that reports show; file and class names are hostile."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from dualexport.core.plain import to_plain
from dualexport.report.document import Decision, Document, Verification

HOSTILE = "<script>alert('x')</script> & \"clip\" | `a`\x07.mp4"
BLOCKS = [f"blocks.{stage}.{block}.{part}" for stage in range(4) for block in range(2) for part in ("attn", "mlp")]
REACHED = ("clips", "top1_agreement", "cosine", "kl_divergence", "snr_db")
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAP///wAAACwAAAAAAQABAAACAkQBADs="


def parse(document: dict[str, Any]) -> Document:
    """The typed document of the JSON of one network or of several."""
    networks = document.get("networks", [{"folder": "demo", **document}])
    decision = msgspec.convert(document["decision"], Decision)
    return Document(msgspec.convert(to_plain(networks), tuple[Verification, ...]), decision)


def share(count: int, total: int) -> dict[str, float]:
    return {"count": count, "total": total, "share": count / total, "low": count / total - 0.03, "high": 1.0}


def make_report(artifact: str, precision: str, agreed: int, error: float, *, passed: bool) -> dict[str, Any]:
    accuracy = {key: share(agreed - 8, 200) for key in ("single_view", "top1", "top5")}
    random = np.random.default_rng(agreed)
    return {
        "artifact": artifact,
        "runner": "ONNX Runtime",
        "clips": 200,
        "videos": 200,
        "top1_agreement": agreed / 200,
        "top5_agreement": 1.0,
        "largest_difference": error,
        "mean_difference": error / 5,
        "cosine": 1 - error / 10,
        "kl_divergence": error**2,
        "snr_db": None if error == 0 else -20 * np.log10(error),
        "not_finite": 0,
        "agreement": share(agreed, 200),
        "accuracy": accuracy,
        "paired": {"lost": 200 - agreed, "gained": 1, "drop": (199 - agreed) / 200, "p_value": 0.039},
        "worst": [
            {
                "name": HOSTILE if number == 0 else f"videos/{number:05d}-turning clockwise.mp4",
                "view": 0,
                "label": number % 3,
                "difference": error / (number + 1),
                "kl_divergence": error,
                "reference": {"index": number % 3, "probability": 0.61},
                "artifact": {"index": 3 if not passed and number < 2 else number % 3, "probability": 0.48},
                "thumbnail": PIXEL if number == 0 else None,
            }
            for number in range(4)
        ],
        "classes": [
            {"index": index, "clips": 20, "agreed": 20 - int(random.integers(0, 1 + (200 - agreed) // 4))}
            for index in range(12)
        ],
        "checks": [
            {"name": "cosine", "got": 1 - error / 10, "limit": 0.98, "at_least": True, "passed": passed, "remark": ""},
            {"name": "clips", "got": 200, "limit": 1, "at_least": True, "passed": True, "remark": ""},
        ],
        "thresholds": {
            "classes": [
                {
                    "index": 0,
                    "clips": 20,
                    "suggested": 0.42,
                    "f1": 0.87,
                    "precision": 0.9,
                    "recall": 0.85,
                    "points": [
                        {"threshold": 0.01, "precision": 0.5, "recall": 1.0},
                        {"threshold": 0.42, "precision": 0.9, "recall": 0.85},
                        {"threshold": 0.8, "precision": None, "recall": 0.0},
                    ],
                }
            ],
            "toml": '[classes]\n"<b>moving</b> left" = 0.42\n',
        },
        "failure": None,
        "passed": passed,
        "worst_clip": HOSTILE,
        "precision": precision,
        "graph": "folded",
        "format": "onnx",
        "size_bytes": 9_700_000,
        "work": {"gmacs_a_clip": 5.12, "shares": {"int8": 0.45} if precision == "int8" else {}},
        "sha256": precision * 8,
    }


def make_latency(
    artifact: str, milliseconds: float, ratio: float, sha256: str, copies: str = "included"
) -> dict[str, Any]:
    """A result in bench.json."""
    samples = np.random.default_rng(1).gamma(9, 0.02, 300) * milliseconds + milliseconds
    return {
        "artifact": artifact,
        "sha256": sha256,
        "runner": "ONNX Runtime 1.31 (CPU)",
        "copies": copies,
        "batch": 1,
        "runs": 300,
        "p50_ms": float(np.median(samples)),
        "p90_ms": float(np.quantile(samples, 0.9)),
        "p99_ms": float(np.quantile(samples, 0.99)),
        "max_ms": float(samples.max()),
        "clip_ms": float(np.median(samples)),
        "clips_a_second": 1000 / milliseconds,
        "round_spread": 0.02,
        "load_seconds": 0.31,
        "host_peak_mb": 412.0,
        "device_peak_mb": None,
        "ratio": {"median": ratio, "low": ratio * 0.97, "high": ratio * 1.05},
        "samples_ms": samples.tolist(),
    }


def make_bench(*results: dict[str, Any], **environment: Any) -> dict[str, Any]:
    """The contents of bench.json."""
    facts = {"gpu": None, "machine": None, "cpu": "x86", "power_mode": None, **environment}
    return {
        "format": 1,
        "measured_at": "2026-05-01T10:00:00+00:00",
        "reference": "n.fp32.onnx",
        "results": results,
        "warnings": ["the machine was busy: rounds differ by 31%"],
        "copies": "With copies between host and device.",
        "environment": facts,
    }


def make_verdict(artifact: str) -> dict[str, Any]:
    sentence = "INT8 measured 1.31x as fast as FP16 on an <NVIDIA> at batch 1."
    facts = {"rest": "fp16", "device": "an <NVIDIA>", "on_gpu": True, "batch": 1, "speedup": 1.31, "spread": 0.02}
    return {"artifact": artifact, **facts, "sentence": sentence}


def make_layers(artifact: str, error: float) -> dict[str, Any]:
    growth = error * np.cumprod(np.random.default_rng(2).uniform(0.9, 1.5, len(BLOCKS)))
    blocks = [
        {"name": name, "relative_error": float(value), "largest_difference": 3 * float(value)}
        for name, value in zip(BLOCKS, growth, strict=True)
    ]
    remark = "no block stands out: the error grows evenly"
    return {"artifact": artifact, "clips": 4, "blocks": blocks, "enters_at": None, "missing": [], "remark": remark}


def make_plan(model: str, moved_mb_by_kind: dict[str, float]) -> dict[str, Any]:
    return {
        "format": 1,
        "model": model,
        "compiler": "TensorRT 10.3",
        "source": "build log",
        "layer_count": 120,
        "layers_by_kind": dict.fromkeys(moved_mb_by_kind, 24),
        "attentions": 8,
        "fused_attentions": 8,
        "moved_mb": sum(moved_mb_by_kind.values()),
        "weights_mb": 9.1,
        "gmacs": 5.12,
        "unattributed_gmacs": 0.0,
        "uncounted_nodes": [],
        "work_shares": {"fp16": 1.0},
        "asked_shares": {"fp16": 1.0},
        "moved_mb_by_kind": moved_mb_by_kind,
    }


def make_document() -> dict[str, Any]:
    """Three artifacts, one of which fails."""
    fp32, fp16, int8 = names = [f"dualformer-demo.{precision}.onnx" for precision in ("fp32", "fp16", "int8")]
    kinds = {"gemm": 200.0, "attention": 41.0, "normalization": 88.0, "pointwise": 20.0, "movement": 31.0}
    return {
        "format": 1,
        "tools": {"python": "3.11.7", "torch": "2.13.0"},
        "passed": False,
        "decision": {
            "ship": False,
            "reasons": [f"{int8}: cosine 0.94 (limit 0.98)"],
            "caveats": ["the clips have no labels: agreement was measured, accuracy was not"],
        },
        "network": {
            "name": "dualformer-demo",
            "size": "n",
            "classes": 12,
            "labels": ["<b>moving</b> left", "moving right", "turning counter-clockwise and more of it", "blinking"],
            "random_weights": False,
            "selections": [],
        },
        "reference": {
            "name": "PyTorch 2.13.0 (CPU, FP32)",
            "clips": 200,
            "videos": 200,
            "labelled": 200,
            "accuracy": {key: share(190, 200) for key in ("single_view", "top1", "top5")},
            "accuracy_unknown": None,
        },
        "reports": [
            make_report(fp32, "fp32", 200, 2e-6, passed=True),
            make_report(fp16, "fp16", 199, 4e-3, passed=True),
            make_report(int8, "int8", 188, 0.6, passed=False),
        ],
        "skipped": [],
        "environment": {"machine": None, "cpu": "x86 & more", "cpu_cores": 2, "gpu": None, "kernel": "6.1"},
        "latency": {
            **make_bench(
                *(
                    make_latency(name, milliseconds, milliseconds / 41, precision * 8)
                    for name, milliseconds, precision in zip(names, (41, 55, 28), ("fp32", "fp16", "int8"), strict=True)
                )
            ),
            "verdicts": [make_verdict(int8)],
        },
        "layers": [make_layers(name, error) for name, error in zip(names, (1e-7, 4e-4, 2e-2), strict=True)],
        "bisection": [
            {
                "artifact": int8,
                "remark": f"{int8} holds its limits with blocks.1.0.mlp.fc1 in FP16",
                "layers": ["blocks.1.0.mlp.fc1"],
                "patterns": ["blocks.1.0.mlp.fc1"],
                "command": f"dualexport int8 '{HOSTILE}' --keep-fp16 blocks.1.0.mlp.fc1",
                "graphs_tried": 3,
                "reaches": dict(zip(REACHED, (200, 0.995, 0.99, 0.01, 31.0), strict=True)),
            }
        ],
        "plans": [
            make_plan(name, {kind: size / factor for kind, size in kinds.items()})
            for name, factor in zip(names, (1, 2, 3), strict=True)
        ],
        "manifest": {"schema": 1, "note": HOSTILE},
    }


def make_document_of_two(selected: str = "dualformer-demo-T0_0.5") -> dict[str, Any]:
    """Two networks in one document; the second one's name is `selected`."""
    whole, other = make_document(), make_document()
    other["network"]["name"] = selected
    for part in (*other["reports"], *other["latency"]["results"], *other["layers"]):
        part["artifact"] = part["artifact"].replace("dualformer-demo", selected)
    for plan in other["plans"]:
        plan["model"] = plan["model"].replace("dualformer-demo", selected)
    return {
        "format": 1,
        "passed": False,
        "decision": {"ship": False, "reasons": ["an artifact failed"], "caveats": []},
        "networks": [{"folder": "demo/whole", **whole}, {"folder": "demo/half", **other}],
    }
