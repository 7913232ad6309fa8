"""What a runtime leaves in the shared folder for the agent of its host, and how the two find each other. Format 1.

The folder is the same for all runtimes of a host and its agent; best on a file system in memory, since a mapped file on
a disk may stall its writer while it is written back. In it:

| name | what |
|---|---|
| `agent.sock` | Unix datagram socket on which the agent takes `samples` |
| `agent.lock` | held with `flock` by the one agent |
| `TOKEN/` | a folder for each runtime, named by its token in 32 hexadecimal digits |
| `TOKEN/runtime.json` | a `Runtime`, once |
| `TOKEN/manifest` | `engines.Manifest` as msgpack; replaced as a whole (renamed over) when more is known |
| `TOKEN/alive` | empty; held with `flock` (exclusive) by the runtime as long as it lives, not by its forked children |
| `TOKEN/control` | a `control_page` |
| `TOKEN/ring-NNN` | a `ring` for each writing thread, NNN from 000 |
| `TOKEN/ended` | empty; made by a starting runtime that found this one gone |

A runtime makes its folder under a name that begins with `.`, fills and locks it, and then renames it: an agent never sees
half of one. An agent that can lock `alive` (shared) knows that the runtime has ended: with `leaving` in its page it said
goodbye, without it crashed. It takes what the rings still hold and removes the folder. In case no agent ever comes, a
starting runtime marks the folders of those that are gone, and removes those that were marked an hour ago.
"""

from __future__ import annotations

import msgspec

from layerwatch.schemas.codec import Reader

SOCKET_NAME = "agent.sock"
LOCK_NAME = "agent.lock"
ABOUT_NAME = "runtime.json"
MANIFEST_NAME = "manifest"
ALIVE_NAME = "alive"
CONTROL_NAME = "control"
RING_PREFIX = "ring-"

#: Where runtimes and agent meet unless they are told otherwise.
DEFAULT_FOLDER = "/dev/shm/layerwatch"
#: Rings that one runtime has at most: threads beyond them are not recorded, and counted.
MAX_RINGS = 64
TOKEN_BYTES = 16


class Input(msgspec.Struct, array_like=True, frozen=True):
    """An input tensor whose dimensions are in each record of the rings."""

    name: str
    rank: int


class Runtime(msgspec.Struct, frozen=True, kw_only=True, tag="layerwatch.runtime/1", tag_field="schema"):
    """A process that serves one engine on one GPU."""

    service: str
    instance: str
    boot_ms: int  # unix ms at which it began
    engine: str  # build id, sha256:...
    token: str  # 32 hexadecimal digits
    pid: int = 0
    host: str = ""
    gpu: str = ""  # GPU-... or MIG-..., as NVML names it
    gpu_model: str = ""
    tensorrt: str = ""
    inputs: list[Input] = []  # in the order of the dimensions in a record
    rate: float = 0.0  # share of executions that it samples while nobody tells it otherwise


RUNTIME_READER = Reader(Runtime, json=True)


def ring_name(number: int) -> str:
    """`ring-003`"""
    return f"{RING_PREFIX}{number:03d}"
