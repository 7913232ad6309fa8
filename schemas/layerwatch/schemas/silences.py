"""Which alerts a silence holds back."""

from __future__ import annotations

import re

from layerwatch.schemas.alerts import Alert
from layerwatch.schemas.operations import ALL, Matcher, Operation

#: What a matcher can name. Of `cause`, `instance` and `layer`, any of an alert's may match.
LABELS = ("id", "kind", "cause", "severity", "scope", "instance", "host", "gpu", "engine", "layer")


def silenced(alert: Alert, silence: Operation) -> bool:
    """Whether every matcher fits the alert; the silence's times are not looked at. Without matchers, all of a service."""
    if silence.service not in (ALL, alert.service):
        return False
    return all(_fits(_values(alert, matcher.name), matcher) for matcher in silence.matchers)


def _fits(values: list[str], matcher: Matcher) -> bool:
    if matcher.is_regex:
        found = any(re.fullmatch(matcher.value, value) for value in values)
    else:
        found = matcher.value in values
    return found is matcher.is_equal


def _values(alert: Alert, name: str) -> list[str]:
    if name == "cause":
        return [cause.cause for cause in alert.causes]
    if name == "instance":
        return alert.instances
    if name == "layer":
        return [text for layer in alert.layers for text in (layer.name, layer.group)]
    value: str = getattr(alert, name)
    return [value]
