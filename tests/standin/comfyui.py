"""What a ComfyUI keeps and does, without its network and without a GPU: queue, worker, history, log, and a card that may be full.

Whether a prompt runs out of memory is asked of the memory model. The words and shapes are those of recorded servers, 0.24.0
and 0.3.64.
"""

from __future__ import annotations

import copy
import json
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.standin.failing import NODE, PAINTER, Card, error_of, heaviest, predicted_bytes

RECORDED = Path(__file__).parent.parent / "data" / "comfyui"
VERSIONS = ("0.24.0", "0.3.64")
_RING = 300
_OUTPUTS = {"SaveImage", "PreviewImage"}
_KNOWN = {NODE, PAINTER, "EmptyImage", "LoadImage", "ImageScale", "GWFault", *_OUTPUTS}
_LEVEL = {
    "INFO": "\x1b[32m[INFO]\x1b[0m ",
    "ERROR": "\x1b[1m\x1b[31m[ERROR]\x1b[0m ",
}

Item = tuple[float, str, dict[str, Any], dict[str, Any], list[str]]
Send = Callable[[dict[str, Any]], None]


@dataclass
class ComfyUI:
    """One server process's state; `restart` begins another."""

    version: str = "0.24.0"
    card: Card = field(default_factory=Card)
    log_file: Path | None = None
    """Where the server's output is redirected to, too."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    lock: threading.RLock = field(default_factory=threading.RLock)
    changed: threading.Condition = field(init=False)
    gate: threading.Event = field(default_factory=threading.Event)
    """While it is not set, the running prompt does not end."""
    worker_alive: bool = True
    takes_ids: bool = True
    """Whether a prompt may come with an id of its own."""
    silent: bool = False
    """Sockets stay open and say nothing."""
    interrupt: bool = False
    number: int = 0
    pending: list[Item] = field(default_factory=list)
    running: Item | None = None
    history: dict[str, dict[str, Any]] = field(default_factory=dict)
    ring: deque[dict[str, str]] = field(default_factory=lambda: deque(maxlen=_RING))
    clients: dict[str, Send] = field(default_factory=dict)
    subscribed: set[str] = field(default_factory=set)
    lives: int = 0
    executed: list[str] = field(default_factory=list)
    """Ids of all that ever ran, over restarts."""
    uploads: dict[str, bytes] = field(default_factory=dict)
    """The input folder: what was uploaded, by its path. A restart leaves it."""
    faults: dict[str, str] = field(default_factory=dict)
    """By node class, with which words it fails."""
    failures: int = 0
    """Errors that were logged, over restarts."""

    def __post_init__(self) -> None:
        self.changed = threading.Condition(self.lock)
        self.recorded = json.loads((RECORDED / f"{self.version}.json").read_text())
        self.gate.set()
        self._ended = False
        self._worker = threading.Thread(target=self._work, daemon=True)
        self.boot()
        self._worker.start()

    @property
    def modern(self) -> bool:
        return self.version.startswith("0.24")

    # -- life ------------------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Say what a server says when it begins."""
        with self.lock:
            self.lives += 1
            total = self.card.total_bytes >> 20
            for line in (
                f"Total VRAM {total} MB, total RAM 24106 MB\n",
                f"ComfyUI version: {self.version}\n",
                "Starting server\n\n",
                "To see the GUI go to: http://127.0.0.1:8188\n",
            ):
                self.log(line)

    def restart(self) -> None:
        """Another process: everything that was in memory is gone, ids and numbers begin again."""
        with self.changed:
            self.pending.clear()
            self.running = None
            self.history.clear()
            self.ring.clear()
            self.clients.clear()
            self.subscribed.clear()
            self.number = 0
            self.worker_alive, self.silent, self.interrupt = True, False, False
            self.boot()
            self.changed.notify_all()

    def end(self) -> None:
        with self.changed:
            self._ended = True
            self.gate.set()
            self.changed.notify_all()
        self._worker.join(10)

    # -- what it says ------------------------------------------------------------------------------------------------------

    def log(self, words: str, level: str = "INFO") -> None:
        """Write one record, as one write() of the server."""
        if self.modern:
            words = _LEVEL[level] + words
        with self.lock:
            entry = {"t": self.now().replace(tzinfo=None).isoformat(timespec="microseconds"), "m": words}
            self.ring.append(entry)
            if self.log_file is not None:
                with self.log_file.open("a") as file:
                    file.write(words)
            for client in list(self.subscribed):
                self.send(client, "logs", {"entries": [entry], "size": None})

    def send(self, client: str, kind: str, data: Mapping[str, Any]) -> None:
        if not self.silent and (send := self.clients.get(client)) is not None:
            send({"type": kind, "data": data})

    def broadcast(self, kind: str, data: Mapping[str, Any]) -> None:
        for client in list(self.clients):
            self.send(client, kind, data)

    def tell(self, item: Item, kind: str, data: Mapping[str, Any]) -> None:
        """To the submitter alone, where there is one: errors of the others are told to nobody."""
        if client := item[3].get("client_id"):
            self.send(client, kind, data)
        elif kind in {"progress_state", "execution_interrupted"}:
            self.broadcast(kind, data)

    def status(self) -> None:
        self.broadcast("status", {"status": {"exec_info": {"queue_remaining": self.remaining}}})

    @property
    def remaining(self) -> int:
        return len(self.pending) + (self.running is not None)

    # -- prompts -----------------------------------------------------------------------------------------------------------

    def submit(self, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """POST /prompt."""
        self.log("got prompt\n")
        prompt = body.get("prompt")
        if not isinstance(prompt, dict) or not prompt:
            return self._refuse("no_prompt", "No prompt provided")
        for node_id, node in prompt.items():
            if node.get("class_type") not in _KNOWN:
                kind = "missing_node_type" if self.modern else "invalid_prompt"
                words = f"Node {node.get('class_type')!r} not found. The custom node may not be installed."
                return self._refuse(kind, words, details=f"Node ID '#{node_id}'")
        outputs = [id_ for id_, node in prompt.items() if node["class_type"] in _OUTPUTS]
        if not outputs:
            return self._refuse("prompt_no_outputs", "Prompt has no outputs")
        errors = {}
        for id_, node in prompt.items():
            side = node.get("inputs", {}).get("model_input_size")
            if node["class_type"] == NODE and not (isinstance(side, int) and 32 <= side <= 4096):
                words = f"Value {side} bigger than max of 4096"
                error = {
                    "type": "value_bigger_than_max",
                    "message": words,
                    "details": "model_input_size",
                    "extra_info": {},
                }
                errors[id_] = {"errors": [error], "dependent_outputs": outputs[:1], "class_type": NODE}
        if errors:
            self.log(f"Failed to validate prompt for output {outputs[0]}:\n", "ERROR")
            outputs = outputs[1:]
            if not outputs:
                return self._refuse("prompt_outputs_failed_validation", "Prompt outputs failed validation", errors)
        with self.changed:
            number = float(body["number"]) if "number" in body else float(self.number)
            if body.get("front"):
                number = -number
            self.number += 1
            extra = dict(body.get("extra_data") or {})
            if "client_id" in body:
                extra["client_id"] = body["client_id"]
            if self.modern:
                extra["create_time"] = self._milliseconds()
            id_ = str((body.get("prompt_id") if self.takes_ids else None) or uuid.uuid4())
            self.pending.append((number, id_, copy.deepcopy(prompt), extra, outputs))
            self.status()
            self.changed.notify_all()
        return 200, {"prompt_id": id_, "number": number, "node_errors": errors}

    def _refuse(
        self, kind: str, message: str, errors: Mapping[str, Any] | None = None, details: str = ""
    ) -> tuple[int, dict[str, Any]]:
        error = {"type": kind, "message": message, "details": details, "extra_info": {}}
        self.log(f"invalid prompt: {error}\n", "ERROR")
        return 400, {"error": error, "node_errors": dict(errors or {})}

    def stop_running(self, prompt_id: str | None) -> None:
        """POST /interrupt."""
        with self.lock:
            if self.running is not None and prompt_id in {None, self.running[1]}:
                self.log(f"Interrupting prompt {self.running[1]}\n")
                self.interrupt = True
        self.gate.set()

    def free(self, body: Mapping[str, Any]) -> None:
        """POST /free."""
        if body.get("free_memory") or body.get("unload_models"):
            self.card.held_bytes = 0

    def delete(self, ids: list[str], *, clear: bool = False) -> None:
        """POST /queue: what is deleted while it waits leaves no trace."""
        with self.lock:
            self.pending = [] if clear else [item for item in self.pending if item[1] not in ids]
            self.status()

    # -- the worker --------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self._ended or (self.worker_alive and bool(self.pending)))
                if self._ended:
                    return
                self.pending.sort(key=lambda item: item[0])
                item = self.running = self.pending.pop(0)
                life = self.lives
                self.status()
                self._tell_running(item)
                needs = self._heaviest(item)
                if needs is not None and needs[1] <= self.card.free_bytes:
                    self.card.working_bytes = round(needs[1])
                self.changed.notify_all()
            self.gate.wait()
            with self.changed:
                self.card.working_bytes = 0
                if self._ended or life != self.lives:
                    continue  # another process: this prompt died with the old one
                self._run(item)
                self.changed.notify_all()

    def _tell_running(self, item: Item) -> None:
        self.tell(item, "execution_start", {"prompt_id": item[1], "timestamp": self._milliseconds()})
        self._tell_node(item, "running")

    def _tell_node(self, item: Item, state: str) -> None:
        node = next((id_ for id_, n in item[2].items() if n["class_type"] == NODE), next(iter(item[2])))
        told = {"value": float(state == "finished"), "max": 1.0, "state": state, "node_id": node, "prompt_id": item[1]}
        told |= {"display_node_id": node, "parent_node_id": None, "real_node_id": node}
        self.tell(item, "progress_state", {"prompt_id": item[1], "nodes": {node: told}})

    def _run(self, item: Item) -> None:
        started = self._milliseconds()
        head = {"prompt_id": item[1], "timestamp": started}
        messages: list[list[Any]] = [["execution_start", head], ["execution_cached", {"nodes": [], **head}]]
        self.executed.append(item[1])
        error = None
        if self.interrupt:
            self.interrupt = False
            self.log("Processing interrupted\n")
            last: tuple[str, dict[str, Any]] = (
                "execution_interrupted",
                {**head, "node_id": "3", "node_type": NODE, "executed": []},
            )
        elif (error := self._error(item)) is not None:
            last = ("execution_error", error)
            self._log_error(error)
        else:
            self._tell_node(item, "finished")
            last = ("execution_success", {**head, "timestamp": self._milliseconds()})
        messages.append([last[0], last[1]])
        self.tell(item, last[0], last[1])
        well = last[0] == "execution_success"
        self.history[item[1]] = {
            "prompt": list(item),
            "outputs": {item[4][0]: {"images": [{"filename": f"{item[1]}.png", "subfolder": "", "type": "output"}]}}
            if well
            else {},
            "status": {"status_str": "success" if well else "error", "completed": well, "messages": messages},
            "meta": {},
        }
        self.running = None
        self.status()
        seconds = (
            "\x1b[32mPrompt executed in 0.25 seconds\x1b[0m\n" if self.modern else "Prompt executed in 0.25 seconds\n"
        )
        self.log(seconds)
        if error is not None and "illegal memory access" in error["exception_message"]:
            self.worker_alive = False
            self.log_raw(
                'Exception in thread Thread-1 (prompt_worker):\nTraceback (most recent call last):\n  File "threading.py", '
                f"line 1045, in _bootstrap_inner\ntorch.AcceleratorError: {error['exception_message']}\n"
            )

    def log_raw(self, words: str) -> None:
        """What Python itself writes: it has no level."""
        modern, self.version = self.version, "0.3.64"
        try:
            self.log(words)
        finally:
            self.version = modern

    def _error(self, item: Item) -> dict[str, Any] | None:
        """The execution_error of a prompt that fails; None for one that runs well."""
        told = self.recorded if self.modern else self.recorded | {"accelerator_error": "RuntimeError"}
        error = error_of(item[2], told, self.card, faults=self.faults, needs_bytes=self.needs_bytes)
        return error and error | {"prompt_id": item[1], "timestamp": self._milliseconds()}

    def _heaviest(self, item: Item) -> tuple[str, float] | None:
        return heaviest(item[2], self.needs_bytes)

    def needs_bytes(self, side_px: int, checkpoint: str) -> float:
        """What the memory model says that the job holds on the card."""
        return predicted_bytes(side_px, checkpoint)

    def _log_error(self, error: Mapping[str, Any]) -> None:
        self.failures += 1
        message = error["exception_message"].partition("\nThis error means")[0].rstrip("\n")
        out_of_memory = "out of memory" in message or message.startswith("Allocation on device")
        self.log(f"!!! Exception during processing !!! {message}\n", "ERROR")
        frames = "".join(error["traceback"])
        self.log(f"Traceback (most recent call last):\n{frames}{error['exception_type']}: {message}\n\n", "ERROR")
        if out_of_memory:
            self.log("Got an OOM, unloading all loaded models.\n", "ERROR")

    def _milliseconds(self) -> int:
        return int(self.now().timestamp() * 1000)
