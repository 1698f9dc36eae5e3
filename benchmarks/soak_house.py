"""Two backends and two gateways, each a process of its own, and what may go wrong with them.

gateway 0 ──┬─► wire ─► backend 0       the wires are ours: they can be cut, and tell
            └─► wire ─► backend 1       which gateway has answers of which backend
gateway 1 ──┬─► wire ─► backend 0
            └─► wire ─► backend 1
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import yaml

from benchmarks.soak_wire import Wire
from protos import tfs_pb2
from tensorseek import stack
from tensorseek.process import Child

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_PATIENCE_S = 60
_ANSWERS_BYTES = 10_000
_FLOOD = 800  # more than a backend works on and lets wait together
_TRIES = 20
_TOKENS = 30_000  # of a call that takes a backend a while


@dataclass(frozen=True, kw_only=True)
class House:
    """What runs; the parts of one kind are told apart by their number, from 0."""

    backends: Sequence[Child]
    backend_ports: Sequence[int]
    wires: Sequence[Sequence[Wire]]  # of each backend, to each gateway
    gateways: Sequence[Child]
    gateway_ports: Sequence[int]
    configs: Sequence[Path]  # of the gateways

    def address(self, first: int) -> str:
        """Both gateways, as a client takes them that prefers one."""
        ports = [self.gateway_ports[first], self.gateway_ports[1 - first]]
        return "ipv4:" + ",".join(f"{stack.HOST}:{port}" for port in ports)

    def configure(self, **changes: Any) -> None:
        """Changes the gateways' configuration files."""
        for path in self.configs:
            settings = yaml.safe_load(path.read_text())
            path.write_text(yaml.safe_dump(settings | changes))

    def spoil_configs(self) -> Mapping[Path, str]:
        """Makes the gateways' configuration files invalid; what they held."""
        held = {path: path.read_text() for path in self.configs}
        for path in held:
            path.write_text("backend: [")
        return held

    def cut(self, number: int) -> None:
        """Breaks the connections to a backend, with the calls on them."""
        for wire in self.wires[number]:
            wire.cut()

    def recovery_s(self, number: int) -> float:
        """Waits until both gateways ask a backend again that can answer again; both need load.

        Raises:
            TimeoutError: they do not.
        """
        began = time.monotonic()
        # Pings and looks at its state are small; answers to a load are many.
        wanted = {wire: wire.carried + _ANSWERS_BYTES for wire in self.wires[number]}
        while any(wire.carried < most for wire, most in wanted.items()):
            if time.monotonic() - began > _PATIENCE_S:
                raise TimeoutError(f"backend {number} is not asked any more")
            time.sleep(0.01)
        return time.monotonic() - began

    def flood(self, number: int, model: str) -> Mapping[grpc.StatusCode, int]:
        """Asks a backend for more than it lets wait, and says how these calls ended.

        On a machine with much else to do it takes some tries until that many wait at once.
        """
        request = tfs_pb2.PredictRequest(model_spec=tfs_pb2.ModelSpec(name=model))
        for name in ("input_ids", "attention_mask"):  # the last value fills up the shape
            tensor = tfs_pb2.TensorProto(dtype="DT_INT32", int_val=[1])
            tensor.tensor_shape.dim.add(size=1)
            tensor.tensor_shape.dim.add(size=_TOKENS)
            request.inputs[name].CopyFrom(tensor)
        data = request.SerializeToString()
        with grpc.insecure_channel(f"{stack.HOST}:{self.backend_ports[number]}") as channel:
            predict = channel.unary_unary(_PREDICT)
            found: Counter[grpc.StatusCode] = Counter()
            for _ in range(_TRIES):
                calls = [predict.future(data, timeout=_PATIENCE_S) for _ in range(_FLOOD)]
                found += Counter(call.code() for call in calls)
                if found[grpc.StatusCode.RESOURCE_EXHAUSTED]:
                    break
            return found


def send(child: Child, number: signal.Signals) -> None:
    """Sends a signal to a part."""
    assert child.pid is not None
    os.kill(child.pid, number)


@contextlib.contextmanager
def running(models: Path, folder: Path) -> Iterator[House]:
    """Starts everything over a model repository.

    Args:
        folder: of the configuration file and the logs.
    """
    ports = [stack.free_ports(), stack.free_ports()]
    backends = [stack.backend(models, each, folder / f"backend-{each.backend}") for each in ports]
    with contextlib.ExitStack() as wiring:
        wires = [[wiring.enter_context(Wire(each.backend)) for _ in ports] for each in ports]
        configs = [_config(folder, models, each) for each in zip(*wires, strict=True)]
        gateways = [gateway(*each) for each in zip(configs, ports, strict=True)]
        wiring.enter_context(stack.running(backends))
        stack.wait_ready(backends)
        wiring.enter_context(stack.running(gateways))
        stack.wait_ready(gateways)
        yield House(
            backends=backends,
            backend_ports=[each.backend for each in ports],
            wires=wires,
            gateways=gateways,
            gateway_ports=[each.gateway for each in ports],
            configs=configs,
        )


def _config(folder: Path, models: Path, wires: Sequence[Wire]) -> Path:
    path = folder / f"gateway-{wires[0].port}" / "gateway.yaml"
    path.parent.mkdir()
    settings = {
        "models": str(models.absolute()),
        "backend": [f"{stack.HOST}:{wire.port}" for wire in wires],
        "poll_s": 0.2,
    }
    path.write_text(yaml.safe_dump(settings))
    return path


def gateway(config: Path, ports: stack.Ports) -> Child:
    """A gateway of a configuration file, which counts as ready when it can answer for a model."""
    command = ["serve", "gateway", "--config", str(config)]
    command += ["--port", str(ports.gateway), "--http-port", str(ports.http)]
    url = f"http://{stack.HOST}:{ports.http}/readyz"
    return Child("gateway", command, lambda: stack.answers(url), config.parent)
