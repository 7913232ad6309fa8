"""The kill switch that needs no Kafka: files below the state directory, which every process of ours on this machine obeys.

`kill/all` switches decisions off for every service, `kill/services/NAME` for one (percent-encoded where it is no file name).
What is in the file is the reason. A person can make and remove them by hand.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, unquote

from layerwatch.hosting.files import replace_whole
from layerwatch.schemas.operations import ALL


class KillSwitch:
    """The files in one state directory. Looking costs a system call or two, so ask once a second, not once a record."""

    def __init__(self, state_dir: Path) -> None:
        self._all = state_dir / "kill" / "all"
        self._services = state_dir / "kill" / "services"

    def killed(self) -> dict[str, str]:
        """The services that are switched off (`*`: all of them), each with the reason."""
        found = {unquote(path.name): _reason(path) for path in _files(self._services)}
        return found | ({ALL: _reason(self._all)} if self._all.exists() else {})

    def kill(self, service: str, reason: str) -> None:
        """Switch decisions off for a service, or for all (`*`); again changes the reason."""
        path = self._path(service)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_whole(path, reason.encode())

    def resume(self, service: str) -> bool:
        """Take back a kill of exactly this service (or of `*`); whether there was one."""
        path = self._path(service)
        if not path.exists():
            return False
        path.unlink(missing_ok=True)
        return True

    def _path(self, service: str) -> Path:
        if service == ALL:
            return self._all
        name = quote(service, safe="")
        return self._services / ("%2E" + name[1:] if name.startswith(".") else name)


def _files(folder: Path) -> list[Path]:
    """A draft of ours begins with a dot, and is none yet."""
    return sorted(path for path in folder.iterdir() if path.name[0] != ".") if folder.is_dir() else []


def _reason(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or "no reason given"
    except FileNotFoundError:  # taken back in this moment: the next look will not find it
        return "no reason given"
    except OSError as error:  # a switch that cannot be read is on
        return f"{path} cannot be read ({error.strerror})"
