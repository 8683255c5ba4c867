"""The README's picture and table: the demo model in FP32, FP16 and INT8, with all frames and with half of them.

Usage: python benchmarks/report_picture.py FOLDER... --calibrate CALIBRATION --held-out HELD_OUT

Each FOLDER is what `dualexport onnx --model demo --input uint8` wrote, with or without `--stts T0:0.5`. Calibrates INT8
on CALIBRATION, measures latency, and verifies on HELD_OUT (200 or more labelled videos, none calibrated on),
the latter two over all folders in one run. Writes report.html, report.json and report.png, the top of the page in
Chromium, to the current folder, and prints the table.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
from dualexport.report.document import Verification
from dualexport.report.figures import number, percent, share

DUALEXPORT = (sys.executable, "-m", "dualexport")
WIDTH, HEIGHT = 1200, 990  # pixels: the decision, the table of all artifacts, and its pictures
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def measure(folders: list[str], calibrate: str, held_out: str) -> None:
    """Run the commands whose output the picture and the table are."""
    for folder in folders:
        subprocess.run([*DUALEXPORT, "int8", folder, "--clips", calibrate], check=True)
    subprocess.run([*DUALEXPORT, "bench", *folders, "--seconds", "8", "--rounds", "10"], check=True)
    reports = ("--report", "report.html", "--report", "report.json")
    subprocess.run([*DUALEXPORT, "verify", *folders, "--clips", held_out, *reports], check=True)


def draw(page: Path, picture: Path) -> None:
    """The top of a page as a PNG."""
    browser = next(filter(None, map(shutil.which, BROWSERS)))
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}")
    subprocess.run([browser, *options, f"--screenshot={picture}", page.resolve().as_uri()], check=True)


def list_rows(document: Path) -> list[str]:
    """A row of the README's table an artifact."""
    rows = []
    for network in msgspec.convert(json.loads(document.read_text())["networks"], list[Verification]):
        for report in network.reports:
            measured = network.find_latency(report)
            assert report.accuracy is not None, "the videos are labelled"
            assert report.agreement is not None
            assert report.work is not None
            assert measured is not None, "bench measured it"
            assert measured.ratio is not None
            ratio = measured.ratio
            cells = (
                report.artifact,
                share(report.accuracy.top1),
                percent(report.agreement.share),
                f"{number(report.snr_db, '.1f')} dB",
                number(report.work.gmacs_a_clip, ".2f"),
                number(report.size_mb, ".1f"),
                f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})",
            )
            rows.append(f"| {' | '.join(cells)} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    parser.add_argument("--calibrate", required=True)
    parser.add_argument("--held-out", required=True)
    arguments = parser.parse_args()
    measure(arguments.folders, arguments.calibrate, arguments.held_out)
    draw(Path("report.html"), Path("report.png"))
    print("| | top-1 | agreement | signal to noise | GMACs | MB | CPU time, ratio |\n|---|---|---|---|---|---|---|")
    print("\n".join(list_rows(Path("report.json"))))


if __name__ == "__main__":
    main()
