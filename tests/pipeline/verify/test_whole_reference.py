"""A network of fewer frames is compared with itself on all frames."""

from __future__ import annotations

from pathlib import Path

import dualexport as dx
import numpy as np
import pytest
import torch
from dualexport.clips.synthetic import generated_clips
from dualexport.core.types import Preprocessing


@pytest.mark.slow
def test_the_reference_sees_all_frames_and_the_files_their_own(tmp_path: Path) -> None:
    demo = dx.load_demo()
    clips = list(generated_clips(3, Preprocessing(frames=16), seed=5))
    np.save(tmp_path / "clips.npy", np.stack([clip.data for clip in clips]))
    videos = dx.Clips(tmp_path / "clips.npy")
    folder = tmp_path / "fewer"
    dx.export(demo.with_clips(8), folder, dx.ExportOptions(precisions=("fp32",)))
    (network,) = dx.verify(folder, videos, dx.VerifyOptions(reference="whole")).networks
    (report,) = network.comparison.reports
    assert any("8 of its frames" in caveat for caveat in network.verification.decision.caveats)
    inputs = torch.from_numpy(np.stack([clip.network_input("float32") for clip in clips]))
    with torch.no_grad():
        whole, fewer = demo.module(inputs), demo.with_clips(8).module(inputs[:, :, ::2])
    assert report.largest_difference == pytest.approx((whole - fewer).abs().max().item(), rel=1e-3)
    assert report.top1_agreement == pytest.approx((whole.argmax(1) == fewer.argmax(1)).float().mean().item())
