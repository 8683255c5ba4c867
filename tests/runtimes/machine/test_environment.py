"""The machine's state is read where it is, from the files of a Jetson and of a server, and unknown where it is not."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from dualexport.runtimes.machine.environment import read_environment, read_state
from dualexport.runtimes.machine.host import read_host
from dualexport.runtimes.machine.nvidia_smi import ask_nvidia_smi
from dualexport.runtimes.tensorrt.cuda import GpuDevice


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_jetson_gives_its_name_release_power_mode_and_clocks(tmp_path: Path) -> None:
    files = {
        "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
        "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=2 NAME=MODE_30W >\n",
        "var/lib/nvpmodel/status": "pmode:0002 fmode:quiet\n",
        "proc/meminfo": "MemTotal:       64352812 kB\n",
        "sys/class/devfreq/17000000.gpu/cur_freq": "612000000\n",
        "sys/class/devfreq/17000000.gpu/min_freq": "306000000\n",
        "sys/class/devfreq/17000000.gpu/max_freq": "1301000000\n",
        "sys/class/devfreq/15340000.vic/cur_freq": "729600000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1728000\n",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "729600\n",
        "sys/class/thermal/thermal_zone0/temp": "48500\n",
        "sys/class/thermal/thermal_zone1/temp": "51250\n",
        "sys/class/thermal/thermal_zone9/temp": "-256000\n",
        "proc/loadavg": "1.25 0.9 0.5 2/300 4242\n",
    }
    write(tmp_path, **files)
    environment, state = read_environment(tmp_path), read_state(tmp_path)
    assert environment.machine == "NVIDIA Jetson AGX Orin Developer Kit"
    assert (environment.jetson_release, environment.power_mode) == ("36.4.3 (JetPack 6.2)", "MODE_30W")
    assert environment.memory_gb == 65.9  # a kB has 1024 bytes
    assert (environment.gpu_max_mhz, environment.locked_clocks) == (1301.0, False)
    assert (state.cpu_mhz, state.gpu_mhz, state.temperature_c, state.load) == (1728.0, 612.0, 51.25, 1.25)
    assert environment.gpu is None


def test_a_server_gives_what_nvidia_smi_says(tmp_path: Path) -> None:
    answer = """#!/bin/sh
case "$1" in
*=name*) echo "NVIDIA L4, 570.86.15";;
*clocks.max*) echo "2040, Enabled";;
*event_reasons*) echo "field is not valid"; exit 2;;
*throttle_reasons*) echo "0x0000000000000024";;
*) echo "1980, 6251, [N/A], 71.5";;
esac
"""
    write(tmp_path, **{"usr/bin/nvidia-smi": answer, "proc/cpuinfo": "processor: 0\nmodel name\t: Some CPU @ 3 GHz\n"})
    (tmp_path / "usr/bin/nvidia-smi").chmod(0o755)
    environment, state = read_environment(tmp_path), read_state(tmp_path)
    assert (environment.gpu, environment.gpu_driver, environment.cpu) == ("NVIDIA L4", "570.86.15", "Some CPU @ 3 GHz")
    assert (environment.gpu_max_mhz, environment.persistence_mode) == (2040.0, "Enabled")
    assert (state.gpu_mhz, state.memory_mhz, state.gpu_temperature_c, state.gpu_power_w) == (1980.0, 6251.0, None, 71.5)
    assert state.slowed_by == "software power cap, software thermal slowdown"


@pytest.mark.parametrize("place", ["usr/local/nvidia/bin", "usr/sbin", "usr/lib/wsl/lib"])
def test_nvidia_smi_is_found_wherever_drivers_put_it(tmp_path: Path, place: str) -> None:
    write(tmp_path, **{f"{place}/nvidia-smi": '#!/bin/sh\necho "NVIDIA H200, 570.86.15"\n'})
    (tmp_path / place / "nvidia-smi").chmod(0o755)
    assert read_environment(tmp_path).gpu == "NVIDIA H200"


def test_the_gpu_is_the_one_that_cuda_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, **{"usr/bin/nvidia-smi": '#!/bin/sh\necho "asked $3, 570.86.15"\n'})
    (tmp_path / "usr/bin/nvidia-smi").chmod(0o755)
    device = GpuDevice("NVIDIA H200", "9.0", 139 << 30, "12.8", pci_bus_id="00000000:3b:00.0")
    assert read_environment(tmp_path, device).gpu == "NVIDIA H200"
    assert ask_nvidia_smi("name,driver_version", device.pci_bus_id, tmp_path) == {
        "name": "asked --id=00000000:3b:00.0",
        "driver_version": "570.86.15",
    }
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert read_environment(tmp_path).gpu == "asked --id=3"


@pytest.mark.parametrize(
    ("revision", "jetpack"),
    [("4.7", "6.2.1"), ("5.0", "6.2.2"), ("5", "6.2.2"), ("5.9", "6.2.3 or newer"), ("2.0", None)],
)
def test_a_release_of_jetson_linux_has_its_jetpack(tmp_path: Path, revision: str, jetpack: str | None) -> None:
    write(tmp_path, **{"etc/nv_tegra_release": f"# R36 (release), REVISION: {revision}, GCID: 1, BOARD: generic\n"})
    assert read_host(tmp_path).jetpack == jetpack


def test_what_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    assert set(asdict(read_state(tmp_path)).values()) == {None}
    write(tmp_path, **{"usr/bin/nvidia-smi": "#!/bin/sh\nexit 9\n", "var/lib/nvpmodel/status": "pmode:0007\n"})
    (tmp_path / "usr/bin/nvidia-smi").chmod(0o755)
    environment = read_environment(tmp_path)
    assert (environment.gpu, environment.machine, environment.power_mode) == (None, None, "mode 7")
