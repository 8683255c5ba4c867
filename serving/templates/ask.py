"""Ask a Triton server for the classes of a video.

Usage: python ask.py NAME VIDEO [--url localhost:8000] [--top 5].

Needs `pip install "tritonclient[http]"` and nothing else.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import tritonclient.http as triton


def main() -> None:
    """Send the video's bytes to the ensemble, and print the most probable classes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="the network, as its folder in the repository is called")
    parser.add_argument("video", type=Path)
    parser.add_argument("--url", default="localhost:8000")
    parser.add_argument("--top", type=int, default=5)
    options = parser.parse_args()
    content = np.frombuffer(options.video.read_bytes(), np.uint8)
    video = triton.InferInput("video", [len(content)], "UINT8")
    video.set_data_from_numpy(content)
    wanted = triton.InferRequestedOutput("probabilities", class_count=options.top)
    with triton.InferenceServerClient(options.url) as client:
        answer = client.infer(f"{options.name}-video", [video], outputs=[wanted])
    for line in answer.as_numpy("probabilities"):
        probability, index, *label = line.decode().split(":", 2)
        print(f"{label[0] if label else f'class {index}':<32} {float(probability):6.1%}")


if __name__ == "__main__":
    main()
