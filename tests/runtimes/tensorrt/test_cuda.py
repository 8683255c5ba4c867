"""The words for a CUDA that cannot be used, and what is known of the device when it can."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from dualexport.core.errors import CudaError
from dualexport.runtimes.tensorrt import cuda
from dualexport.runtimes.tensorrt.cuda import Cuda
from support.fake_gpu import FakeRuntime


class NoLibrary:
    """cuda-bindings 12.8.0 without a driver: every call raises."""

    def __getattr__(self, name: str) -> Any:
        def call(*_: object) -> None:
            raise RuntimeError("Failed to dlopen libcuda.so.1")

        return call


def test_the_device_has_a_name_a_place_and_says_whose_its_memory_is() -> None:
    runtime = FakeRuntime()
    runtime.integrated = 1
    device = Cuda(runtime).device()
    assert (device.name, device.compute_capability, device.cuda) == ("Fake", "8.7", "12.6")
    assert (device.shares_memory, device.pci_bus_id) == (True, "00000000:3b:00.0")


def test_a_wheel_without_a_driver_means_no_gpu() -> None:
    with pytest.raises(CudaError, match=r"no NVIDIA GPU can be used here \(Failed to dlopen libcuda") as failed:
        Cuda(NoLibrary()).device()
    assert failed.value.code in cuda.NO_DEVICE


def test_a_wheel_for_a_later_cuda_than_the_driver_s_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "version", lambda _: "13.4.4")
    runtime = FakeRuntime(fail_at=("cudaGetDeviceCount", 1))
    runtime.code = cuda.OLD_DRIVER
    with pytest.raises(CudaError) as failed:
        Cuda(runtime).device()
    assert str(failed.value).startswith(
        "cuda-bindings 13.4.4 needs a driver for CUDA 13.0, the driver here is for CUDA 12.6"
    )
    assert 'pip install "cuda-bindings==12.8.*"' in failed.value.fix
    runtime = FakeRuntime(fail_at=("cudaGetDeviceCount", 1))
    runtime.code, runtime.driver_version = cuda.OLD_DRIVER, 0
    with pytest.raises(CudaError, match="no NVIDIA GPU can be used here"):
        Cuda(runtime).device()


def test_starting_is_the_first_call_that_driver_and_wheel_must_agree_on() -> None:
    runtime = FakeRuntime(fail_at=("cudaFree", 1))
    runtime.code = cuda.OLD_DRIVER
    with pytest.raises(CudaError, match="needs a driver for CUDA"):
        Cuda(runtime).start()
    Cuda(FakeRuntime()).start()


def test_an_error_of_cuda_reaches_another_process_as_it_is() -> None:
    error = pickle.loads(pickle.dumps(CudaError("gone", 719, fix="try again")))
    assert (str(error), error.code, error.fix) == ("gone", 719, "try again")
