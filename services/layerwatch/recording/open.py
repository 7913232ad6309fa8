"""Opens a recording, whatever format it is in."""

from __future__ import annotations

from pathlib import Path

import msgspec

from layerwatch.recording.npz import read_npz
from layerwatch.recording.parquet import read_parquet
from layerwatch.recording.recording import Recording
from layerwatch.schemas.errors import ConfigError


def open_recording(path: Path, service: str | None = None, instance: str | None = None) -> Recording:
    """The recording at `path`, under other names where they are given.

    Raises ConfigError where the file is missing, in no format that is read, or without a message.
    """
    if not path.is_file():
        raise ConfigError(f"{path} is not a file: name a .npz or .parquet recording")
    if path.suffix == ".npz":
        recording = read_npz(path, service=service, instance=instance)
    elif path.suffix == ".parquet":
        recording = _renamed(read_parquet(path), service, instance)
    else:
        raise ConfigError(f"{path} ends in {path.suffix or 'nothing'}: recordings are .npz or .parquet")
    if not recording.batches:
        raise ConfigError(f"{path} holds no messages: record again with `layerwatch record`")
    return recording


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
