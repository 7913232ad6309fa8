"""The operator of the first stage."""

from __future__ import annotations

import logging
from typing import cast

import pytest
from detection import models
from prometheus_client import CollectorRegistry

from layerwatch.detectors.instance_stage import HOT, no_priors
from layerwatch.processor.catalogue import Catalogue
from layerwatch.processor.instances import Instances


class KnowsNothing:
    """Stands in for a catalogue, which needs Kafka."""

    def __init__(self) -> None:
        self.manifests: dict[str, object] = {}
        self.models = models()
        self.priors = no_priors()


def test_an_instance_whose_state_another_version_wrote_learns_anew(caplog: pytest.LogCaptureFixture) -> None:
    operator = Instances(cast(Catalogue, KnowsNothing()), CollectorRegistry())
    with caplog.at_level(logging.WARNING):
        stage = operator.restore(b"i", {HOT: b"what an earlier version wrote"})
    assert stage.dump()
    assert "i learns anew" in caplog.text
