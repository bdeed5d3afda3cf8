"""Which device, and in which number format."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from ..support.errors import UsageError


def choose_device(name: str) -> torch.device:
    """The device to run on; ``auto`` is a CUDA GPU where there is one.

    Raises:
        UsageError: if it is not there.
    """
    if name == "meta":
        raise UsageError("device 'meta' holds no numbers: use auto, cpu or cuda")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"device {name!r} is not here: {str(error).splitlines()[0]}") from None
    return device


def processor(device: torch.device) -> str:
    """The processor's name and, of a CPU, the instructions that PyTorch uses of it: ``AMD EPYC 7B13, AVX2``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):  # Linux alone has this file, and some kinds no name in it
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def choose_precision(precision: str, device: torch.device) -> str:
    """What ``auto`` stands for on a device: bf16 where a GPU has it, fp16 for the prefix on an older
    one, fp32 on a CPU.

    Raises:
        UsageError: for a format that the device does not have.
    """
    cuda = device.type == "cuda"
    if precision == "auto":
        return ("bf16" if torch.cuda.get_device_capability(device)[0] >= 8 else "fp16") if cuda else "fp32"
    if precision in ("tf32", "fp16") and not cuda:
        raise UsageError(f"precision {precision} needs a CUDA GPU; on {device.type} use fp32, bf16 or auto")
    return precision


class Autocast:
    """The number format of a run: a context for the trained part and one for the frozen prefix."""

    def __init__(self, precision: str, device: torch.device) -> None:
        self.precision, self.device = precision, device

    def __call__(self, prefix: bool = False) -> contextlib.AbstractContextManager:
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16 if prefix else None}.get(self.precision)
        return torch.autocast(self.device.type, dtype) if dtype else contextlib.nullcontext()


@contextlib.contextmanager
def matrix_products(precision: str) -> Iterator[None]:
    """TF32 for the products of float32 matrices while the context lasts, if that is the precision."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def product_rate(
    dtype: torch.dtype,
    device: torch.device,
    size: int = 1024,
    seconds: float = 0.3,
    now: Callable[[], float] = time.perf_counter,
) -> float:
    """Floating-point operations a second in products of ``(size, size)`` matrices, measured by the clock ``now``."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    (a @ b).sum().item()  # the first call sets things up
    n, began = 0, now()
    while now() - began < seconds:
        (a @ b)[0, 0].item()
        n += 1
    return 2 * size**3 * n / (now() - began)


def faster_precision(device: torch.device) -> str:
    """``bf16`` where its products are measurably faster here than float32's, else ``fp32``.

    For work that is not compared bit by bit. Processors differ: some have units for bf16, others
    emulate it more slowly than float32.
    """
    return "bf16" if product_rate(torch.bfloat16, device) > 1.2 * product_rate(torch.float32, device) else "fp32"
