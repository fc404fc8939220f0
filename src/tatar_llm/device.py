"""Which device and which number format, each choice with its reason in words."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tatar_llm.errors import TatarLLMError

if TYPE_CHECKING:
    import torch

    from tatar_llm.config import GPTConfig


@dataclass(frozen=True)
class Execution:
    """How this machine will do the arithmetic."""

    device: str
    """cpu, cuda or mps."""
    precision: str
    """bf16, fp16 or fp32: the format of activations and matrix products (weights and optimizer stay fp32)."""
    compile: bool
    """Whether torch.compile is tried."""
    threads: int
    """CPU threads of torch."""
    reasons: tuple[str, ...]
    """Why, a sentence each."""


def find_device(wanted: str = "auto") -> torch.device:
    """The device to use: TATAR_LLM_DEVICE first, then `wanted`, then cuda, mps, cpu in this order.

    Raises TatarLLMError where the device asked for is not here.
    """
    import torch

    override = os.environ.get("TATAR_LLM_DEVICE", "")
    name = override or wanted
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind]))
    if not available.get(name.split(":")[0], False):
        source = "TATAR_LLM_DEVICE" if override else "--device"
        raise TatarLLMError(
            f"{source} asks for {name!r}; here there is: {', '.join(k for k, v in available.items() if v)}"
        )
    return torch.device(name)


def choose_execution(device: str = "auto", precision: str = "auto", compile: str = "auto") -> Execution:
    """Decide device, precision and compilation for training on this machine."""
    import torch

    chosen = find_device(device)
    reasons = [f"device {chosen.type}: {describe_device(chosen)}"]
    kind, why = (precision, "asked for") if precision != "auto" else native_precision(chosen)
    if kind == "fp16" and chosen.type == "cpu":
        raise TatarLLMError("fp16 cannot train on the CPU: take --precision fp32 or bf16")
    reasons.append(f"precision {kind}: {why}")
    compiled, why = (compile == "on", "asked for") if compile != "auto" else can_compile(chosen)
    reasons.append(f"torch.compile {'on' if compiled else 'off'}: {why}")
    return Execution(chosen.type, kind, compiled, torch.get_num_threads(), tuple(reasons))


def native_precision(device: torch.device) -> tuple[str, str]:
    """The fastest number format that the device computes natively, and why."""
    import torch

    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "this GPU computes it natively"
        return "fp16", "this GPU has no native bf16; a gradient scaler keeps small gradients"
    if device.type == "mps":
        return "fp32", "the safe choice on Apple GPUs"
    if cpu_has_bf16():
        return "bf16", "this CPU multiplies bf16 matrices natively (AMX or AVX512-BF16)"
    return "fp32", f"this CPU ({torch.backends.cpu.get_cpu_capability()}) has no fast bf16"


def cpu_has_bf16() -> bool:
    """Whether bf16 matrix products have their own instructions here."""
    import torch

    checks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(check() for check in checks if check is not None)


def can_compile(device: torch.device) -> tuple[bool, str]:
    """Whether torch.compile can work here, and why."""
    if device.type == "mps":
        return False, "not mature on Apple GPUs"
    if device.type == "cuda":
        try:
            import triton  # noqa: F401
        except ImportError:
            return False, "triton is not installed"
        return True, "triton is installed"
    if platform.system() == "Windows" and not shutil.which("cl"):
        return False, "no C++ compiler (cl) on the path; training works without, somewhat slower"
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("g++", "clang++", "c++", "cl")), None)
    if compiler is None:
        return False, "no C++ compiler found; training works without, somewhat slower"
    return True, f"compiler {compiler}"


def describe_device(device: torch.device) -> str:
    """The device's name and its memory or cores."""
    import torch

    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    if device.type == "mps":
        return f"Apple GPU ({platform.machine()})"
    return f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"


def attention_kernel(device: torch.device, precision: str, config: GPTConfig) -> str:
    """Which of torch's kernels scaled_dot_product_attention takes for a causal pass of this shape, after the rotary turn: its name."""
    import torch
    from torch.nn.attention import SDPBackend

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]
    q = torch.zeros(1, config.n_head, min(config.block_size, 16), config.head_dim, device=device, dtype=dtype, requires_grad=True)
    try:
        return SDPBackend(torch._fused_sdp_choice(q, q, q, None, 0.0, True)).name.lower().removesuffix("_attention")
    except (AttributeError, TypeError, ValueError, RuntimeError, NotImplementedError):  # not public in torch; MPS has no choice
        return "torch's own"


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished: only for measuring time."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def keep_freed_memory() -> None:
    """Have the C library keep freed memory for the next step instead of handing it back to the system.

    A training step frees and takes the same tens of megabytes hundreds of times; by default glibc returns each to Linux,
    which then fills every page with zeros again. Elsewhere than on Linux with glibc this does nothing.
    """
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # names of mallopt(3)
    with contextlib.suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(mmap_threshold, 1 << 30)
        library.mallopt(trim_threshold, (1 << 31) - 1)
        library.mallopt(top_pad, 64 << 20)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch failed for want of memory, on whatever device."""
    import torch

    words = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in words or "can't allocate memory" in words
