"""Several processes training one network: what they share, and how they are started.

Data parallelism by torch's DistributedDataParallel under torchrun: each process takes its slice of every batch and
gradients are averaged. One process needs none of it, and every function here then does nothing.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tatar_llm.errors import TatarLLMError

PATIENCE = datetime.timedelta(hours=2)  # process 0 measures the model alone while the others wait


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this one is."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def slice(self, count: int) -> slice:
        """This process's part of `count` windows, which must be divisible among all."""
        each = count // self.world
        return slice(self.rank * each, (self.rank + 1) * each)

    def share(self, value: Any) -> Any:
        """Process 0's value, in every process."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in order."""
        if self.world == 1:
            return [value]
        boxes: list[Any] = [None] * self.world
        dist.all_gather_object(boxes, value)
        return boxes

    def largest(self, value: int) -> int:
        """The largest of all processes' values."""
        if self.world == 1:
            return value
        box = torch.tensor([value])
        dist.all_reduce(box, op=dist.ReduceOp.MAX)
        return int(box)

    def add(self, value: Tensor) -> Tensor:
        """The sum over all processes, in place, without waiting for the device."""
        if self.world > 1:
            dist.all_reduce(value)
        return value

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            dist.barrier()


def under_torchrun() -> bool:
    """Whether torchrun or `--nproc` started this process among others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextlib.contextmanager
def process_group(device_type: str) -> Iterator[Processes]:
    """Join the other processes that torchrun has started, nccl on CUDA and gloo elsewhere; alone without torchrun."""
    if not under_torchrun():
        yield Processes()
        return
    processes = Processes(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", "0")))
    if device_type == "cuda":
        if processes.local_rank >= torch.cuda.device_count():
            raise TatarLLMError(
                f"{processes.local_rank + 1} or more processes on {torch.cuda.device_count()} GPUs: take a smaller --nproc"
            )
        torch.cuda.set_device(processes.local_rank)
    elif device_type == "mps":
        raise TatarLLMError("several processes cannot share an Apple GPU: leave --nproc out, or set TATAR_LLM_DEVICE=cpu")
    dist.init_process_group("cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield processes
    finally:
        with contextlib.suppress(RuntimeError):  # another process is gone already
            dist.destroy_process_group()


START = "import sys; from tatar_llm.cli import main; sys.exit(main(sys.argv[2:], default_recipe=sys.argv[1]))"


def launch(count: int, arguments: list[str], default_recipe: str) -> int:
    """Run `tatar-llm` with these arguments in `count` processes on this machine; the exit code of the first that fails.

    They find one another by torchrun's environment variables. Ctrl-C reaches them by itself, SIGTERM is passed on: they
    write their checkpoint while this process waits. When one of them fails, the others are ended.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // count)))}
    command = [sys.executable, "-c", START, default_recipe, *arguments]
    children = [
        subprocess.Popen(command, env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(count)
    ]
    failed, running = 0, True
    while running:
        running = any([child.poll() is None for child in children])  # before the codes are read, so that none is missed
        try:
            time.sleep(0.1 if running else 0)
        except KeyboardInterrupt:
            continue
        except SystemExit:  # SIGTERM
            _end(children)
        codes = [child.returncode for child in children if child.returncode]
        if codes and not failed:
            failed = codes[0]
            if failed not in (130, 143):
                _end(children)
    return failed if failed >= 0 else 128 - failed  # killed by a signal


def _end(children: list[subprocess.Popen]) -> None:
    for child in children:
        if child.poll() is None:
            child.terminate()
