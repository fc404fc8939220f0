"""Device and precision: the environment first, what is asked for next, and a reason for each choice."""

from __future__ import annotations

import pytest
import torch

from tatar_llm import device
from tatar_llm.config import GPTConfig
from tatar_llm.errors import TatarLLMError


@pytest.fixture(autouse=True)
def plain_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any GPU and with a compiler, whatever this one has."""
    monkeypatch.delenv("TATAR_LLM_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: False)
    monkeypatch.setenv("CXX", "g++")


def test_the_best_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device.find_device().type == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device.find_device().type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.find_device().type == "cuda"
    assert device.find_device("cpu").type == "cpu"


def test_the_environment_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("TATAR_LLM_DEVICE", "cpu")
    assert device.find_device("cuda").type == "cpu"
    monkeypatch.setenv("TATAR_LLM_DEVICE", "cuda:1")
    assert device.find_device("cpu") == torch.device("cuda:1")


def test_a_device_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TatarLLMError, match=r"--device asks for 'cuda'; here there is: cpu"):
        device.find_device("cuda")
    monkeypatch.setenv("TATAR_LLM_DEVICE", "gpu")
    with pytest.raises(TatarLLMError, match=r"TATAR_LLM_DEVICE asks for 'gpu'"):
        device.find_device()


def test_precision_follows_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device.native_precision(torch.device("cpu"))[0] == "fp32"
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: True)
    assert device.native_precision(torch.device("cpu"))[0] == "bf16"
    assert device.native_precision(torch.device("mps"))[0] == "fp32"
    for native, wanted in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, native=native: native)
        assert device.native_precision(torch.device("cuda"))[0] == wanted


def test_fp16_cannot_train_on_the_cpu() -> None:
    with pytest.raises(TatarLLMError, match="fp16 cannot train on the CPU"):
        device.choose_execution("cpu", "fp16")


def test_each_choice_has_its_reason() -> None:
    chosen = device.choose_execution("cpu", "bf16", "off")
    assert (chosen.device, chosen.precision, chosen.compile) == ("cpu", "bf16", False)
    assert chosen.threads == torch.get_num_threads()
    assert [reason.split(":")[0] for reason in chosen.reasons] == ["device cpu", "precision bf16", "torch.compile off"]
    assert "asked for" in chosen.reasons[1]


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(device.platform, "system", lambda: "Linux")
    assert device.can_compile(cpu) == (True, "compiler g++")
    monkeypatch.delenv("CXX")
    monkeypatch.setattr(device.shutil, "which", lambda _name: None)
    works, why = device.can_compile(cpu)
    assert not works and "no C++ compiler" in why
    monkeypatch.setattr(device.platform, "system", lambda: "Windows")
    works, why = device.can_compile(cpu)
    assert not works and "cl" in why
    assert not device.can_compile(torch.device("mps"))[0]


def test_the_real_cpu_describes_itself() -> None:
    assert f"{torch.get_num_threads()} threads" in device.describe_device(torch.device("cpu"))
    device.synchronize(torch.device("cpu"))


def test_the_attention_kernel_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    config = GPTConfig(n_layer=1, n_head=2, n_embd=32, block_size=64)
    assert device.attention_kernel(torch.device("cpu"), "fp32", config) == "flash"
    monkeypatch.delattr(torch, "_fused_sdp_choice")  # it is not torch's public interface
    assert device.attention_kernel(torch.device("cpu"), "fp32", config) == "torch's own"
