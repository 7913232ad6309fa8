"""Manifests of one build, from runtimes that have each seen other profiles of it, become one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from layerwatch.schemas.engines import Layer, Manifest, ProfileLayers, TensorRange, manifest_key, merged

_PROFILES = st.dictionaries(st.integers(0, 5), st.text(min_size=1, max_size=3))


def _manifest(profiles: dict[int, str], engine: str = "sha256:1", ranges: int = 0) -> Manifest:
    return Manifest(
        engine=engine,
        profiles=[ProfileLayers(number, [Layer(name)]) for number, name in sorted(profiles.items())],
        ranges=[TensorRange(str(n)) for n in range(ranges)],
    )


@given(_PROFILES, _PROFILES)
def test_every_profile_is_kept_and_the_newer_word_wins(known: dict[int, str], new: dict[int, str]) -> None:
    assert merged(_manifest(known), _manifest(new)) == _manifest(known | new)
    assert merged(None, _manifest(new)) == _manifest(new)


def test_ranges_are_kept_and_another_build_replaces_all() -> None:
    assert len(merged(_manifest({}, ranges=2), _manifest({0: "a"})).ranges) == 2
    assert merged(_manifest({0: "a"}), _manifest({1: "b"}, "sha256:2")) == _manifest({1: "b"}, "sha256:2")


def test_compaction_keeps_manifests_that_describe_different_profiles() -> None:
    keys = {manifest_key(_manifest(dict.fromkeys(found, "a"))) for found in ([], [0], [1], [0, 1])}
    assert keys == {"sha256:1/", "sha256:1/0", "sha256:1/1", "sha256:1/0+1"}
