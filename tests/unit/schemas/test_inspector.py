"""IEngineInspector's text in every dialect and verbosity becomes layers by profile; whatever else comes becomes none."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerwatch.recording.npz import read_npz
from layerwatch.schemas.inspector import layers_by_profile

DATA = Path(__file__).resolve().parents[2] / "data"


def _real(name: str) -> str:
    return gzip.decompress((DATA / f"{name}.engine.json.gz").read_bytes()).decode()


@pytest.mark.parametrize("name", ["resnet50-int8-h200", "shape-jump-h200"])
def test_a_real_engine_names_its_layers_as_its_profiler_did_in_call_order(name: str) -> None:
    (manifest,) = read_npz(DATA / f"{name}.npz").manifests
    found = layers_by_profile(_real(name), profiles=len(manifest.profiles))
    assert [p.profile for p in found] == [p.profile for p in manifest.profiles]
    for inspected, recorded in zip(found, manifest.profiles, strict=True):
        assert [layer.name for layer in inspected.layers] == [layer.name for layer in recorded.layers]


def test_a_real_engine_tells_types_precisions_and_groups() -> None:
    (profile,) = layers_by_profile(_real("resnet50-int8-h200"))
    convolutions = [layer for layer in profile.layers if "Conv" in layer.type]
    assert Counter(layer.precision for layer in convolutions) == {"fp16": 52, "int8": 1, "fp32": 1}
    assert {layer.group for layer in convolutions if "layer3.5" in layer.name} == {
        f"layer3.5/conv{n}" for n in (1, 2, 3)
    }


def test_a_real_engine_of_two_profiles_marks_the_layers_of_the_later_one_at_every_verbosity() -> None:
    detailed, names = (
        layers_by_profile(_real("encoder1-h200"), 2),
        layers_by_profile(_real("encoder1-names-h200"), 2),
    )
    assert [(p.profile, len(p.layers)) for p in detailed] == [(0, 36), (1, 31)]
    assert [(p.profile, len(p.layers)) for p in names] == [(0, 37), (1, 33)]
    assert any(c < " " for c in _real("encoder1-h200").replace("\n", ""))
    for profile in (*detailed, *names):
        assert {layer.group for layer in profile.layers} >= {
            "blocks.0/attn",
            "blocks.0/ln1",
            "blocks.0/fc1",
            "blocks.0/fc2",
        }
    assert {layer.type for profile in names for layer in profile.layers} == {""}
    assert {"CaskConvolution", "CaskSoftMaxV2"} <= {layer.type for layer in detailed[1].layers}


def test_a_real_int8_engine_tells_its_precisions() -> None:
    (profile,) = layers_by_profile(_real("encoder1-int8-h200"))
    assert "int8" in {layer.precision for layer in profile.layers}


def _text(*layers: Any, tensors: str = "Bindings") -> str:
    return json.dumps({"Layers": list(layers), tensors: []})


def test_names_only_are_strings() -> None:
    (profile,) = layers_by_profile(_text("/blocks.0/attn/MatMul", "Reformat 1"))
    assert [(x.name, x.group, x.type) for x in profile.layers] == [
        ("/blocks.0/attn/MatMul", "blocks.0/attn", ""),
        ("Reformat 1", "", ""),
    ]


def test_version_10_prints_layers_once_for_all_profiles_and_generated_kernels_keep_their_block() -> None:
    kernel = {
        "Name": "__myl_MulMeanAdd_0x1f",
        "LayerType": "kgen",
        "TacticName": "__myl_MulMeanAdd_0x1f",
        "Outputs": [{"Name": "y", "Format/Datatype": "Half"}],
        "Metadata": "[ONNX Layer: /Cast]\x1f[ONNX Layer: /encoder/layer.3/attention/Mul]",
    }
    found = layers_by_profile(_text(kernel), profiles=2)
    assert [p.profile for p in found] == [0, 1]
    (layer,) = found[1].layers
    assert (layer.group, layer.type, layer.precision) == ("layer.3/attention", "kgen", "fp16")


def test_version_11_has_other_keys() -> None:
    gemm = {
        "Name": "gemm",
        "LayerType": "gemm",
        "Outputs": [{"Name": "y", "Datatype": "FP8", "Format": "Row major linear"}],
    }
    (profile,) = layers_by_profile(_text(gemm, tensors="I/O Tensors"))
    assert profile.layers[0].precision == "fp8"


@pytest.mark.parametrize(
    ("entry", "precision"),
    [
        ({"Outputs": [{"Format/Datatype": "Two wide channel vectorized row major FP16 format"}]}, "fp16"),
        ({"Outputs": [{"Format/Datatype": "Four wide channel vectorized row major Int8 format"}]}, "int8"),
        ({"Outputs": [{"Format/Datatype": "Row major linear FP32"}]}, "fp32"),
        ({"Outputs": [{"Format/Datatype": "N/A due to dynamic shapes"}]}, ""),
        ({"Outputs": [{"Format/Datatype": "Row major linear BF16"}]}, "bf16"),
        ({"TacticName": "sm80_xmma_fprop_first_layer_i8f32_i8i32_f32_nchw"}, "int8"),
        ({"TacticName": "sm80_xmma_gemm_f32f32_tf32f32_f32_tn_n"}, "fp32"),
        ({"Weights": {"Type": "Half", "Count": 3}, "Outputs": [{"Format/Datatype": "FP32"}]}, "fp16"),
        ({"Weights": "none", "Outputs": "none", "TacticName": 7}, ""),
    ],
)
def test_precisions(entry: dict[str, Any], precision: str) -> None:
    (profile,) = layers_by_profile(_text({"Name": "x", "LayerType": "y", **entry}))
    assert profile.layers[0].precision == precision


def test_raw_control_characters_inside_strings_are_read() -> None:
    (profile,) = layers_by_profile('{"Layers": [{"Name": "a\x1eb\nc", "LayerType": "x"}]}')
    assert profile.layers[0].name == "a\x1eb\nc"


@pytest.mark.parametrize(
    "text", ["", "null", "[]", '{"Layers": []}', '{"Layers": null}', '{"Layers": [7, {}]}']
)
def test_an_engine_without_names_has_no_layers(text: str) -> None:
    assert layers_by_profile(text, 2) == []


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["Layers", "Name", "Outputs", "Weights", "Type", "Metadata"]), inner
        )
    ),
    max_leaves=12,
)


@given(_json, st.text(max_size=50))
def test_nothing_in_it_raises(value: Any, text: str) -> None:
    layers_by_profile(json.dumps(value))
    layers_by_profile(json.dumps({"Layers": value}))
    layers_by_profile(text)
