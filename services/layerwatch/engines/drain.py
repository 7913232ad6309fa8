"""Takes what probes send, and forgets it: an agent's end of the socket in a process of its own. `python -m layerwatch.engines.drain FOLDER`"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from layerwatch.schemas.runtimes import SOCKET_NAME


def main(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(folder / SOCKET_NAME))
        print("listening", flush=True)
        while True:
            made.recv(1 << 20)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
