"""Opens a recording, whatever format it is in."""

from __future__ import annotations

from pathlib import Path

import msgspec

from layerwatch.recording.npz import read_npz
from layerwatch.recording.parquet import read_parquet
from layerwatch.recording.recording import Recording
from layerwatch.schemas import message_log
from layerwatch.schemas.codec import Reader
from layerwatch.schemas.engines import Manifest, merged
from layerwatch.schemas.errors import ConfigError, InvalidRecord
from layerwatch.schemas.profiles import ProfileBatch
from layerwatch.schemas.topics import ENGINES, PROFILES

_MANIFESTS = Reader(Manifest)
_BATCHES = Reader(ProfileBatch)


def open_recording(path: Path, service: str | None = None, instance: str | None = None) -> Recording:
    """The recording at `path`, under other names where they are given.

    Raises ConfigError where the file is missing, in no format that is read, or without a message.
    """
    if not path.is_file():
        raise ConfigError(f"{path} is not a file: name a .npz, .parquet or .lwlog recording")
    if path.suffix == ".npz":
        recording = read_npz(path, service=service, instance=instance)
    elif path.suffix == ".parquet":
        recording = _renamed(read_parquet(path), service, instance)
    elif path.suffix == message_log.SUFFIX:
        recording = _renamed(_from_log(path), service, instance)
    else:
        raise ConfigError(
            f"{path} ends in {path.suffix or 'nothing'}: recordings are .npz, .parquet or .lwlog"
        )
    if not recording.batches:
        raise ConfigError(f"{path} holds no messages: record again with `layerwatch record`")
    return recording


def _from_log(path: Path) -> Recording:
    """What an agent wrote instead of sending it; the manifests of a build as one."""
    manifests: dict[str, Manifest] = {}
    batches = []
    try:
        with path.open("rb") as file:
            for message in message_log.read_messages(file):
                if message.topic == ENGINES:
                    manifest = _MANIFESTS.decode(message.value)
                    manifests[manifest.engine] = merged(manifests.get(manifest.engine), manifest)
                elif message.topic == PROFILES:
                    batches.append(_BATCHES.decode(message.value))
    except (OSError, InvalidRecord) as error:
        raise ConfigError(f"{path} is not a recording that can be read: {error}") from error
    return Recording(path.stem, list(manifests.values()), batches)


def _renamed(recording: Recording, service: str | None, instance: str | None) -> Recording:
    names = {key: name for key, name in (("service", service), ("instance", instance)) if name is not None}
    instances = {batch.instance for batch in recording}
    if instance is not None and len(instances) > 1:
        raise ConfigError(
            f"{recording.name} holds {len(instances)} instances, which one name would mix: leave out --instance"
        )
    manifests = recording.manifests
    if service is not None:
        manifests = [msgspec.structs.replace(manifest, service=service) for manifest in manifests]
    batches = [msgspec.structs.replace(batch, **names) for batch in recording]
    return Recording(recording.name, manifests, batches, recording.phases)
