"""The manifests for autoscalers ask for what we answer, and no data is never 0 in them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from brokers import CHECKOUT
from debian import program
from infra_tools import kubernetes_validate, run

from layerwatch.history.verdict import verdict
from layerwatch.scaler import keda

FOLDER = CHECKOUT / "infra" / "autoscaling"


def _read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


def test_the_scaled_object_names_its_service_and_keeps_a_replica_and_another_trigger() -> None:
    spec = _read("keda-scaledobject.yaml")["spec"]
    ours, other = spec["triggers"]
    assert ours["type"] == "external-push"
    assert ours["metadata"]["service"], "else the scaler answers INVALID_ARGUMENT"
    assert all(isinstance(value, str) for t in spec["triggers"] for value in t["metadata"].values())
    assert spec["minReplicaCount"] >= 1
    assert "fallback" not in spec
    assert other["metadata"]["ignoreNullValues"] == "false"


def test_the_autoscaler_takes_the_number_as_replicas_beside_another_metric() -> None:
    manifest = _read("hpa.yaml")
    ours, other = manifest["spec"]["metrics"]
    assert ours["external"]["metric"]["name"] == keda.METRIC
    assert ours["external"]["target"] == {"type": "AverageValue", "averageValue": "1"}
    assert other["type"] != "External"


def test_the_autoscaler_is_what_kubernetes_takes() -> None:
    run(kubernetes_validate(), "--strict", str(FOLDER / "hpa.yaml"))


@pytest.mark.parametrize(
    ("firing", "heard_s", "wanted"),
    [([], 990.0, True), ([{"id": "a", "summary": "x"}], 990.0, False), ([], None, None)],
)
def test_the_analysis_reads_the_verdict_and_leaves_unknown_undecided(
    firing: list[dict[str, Any]], heard_s: float | None, wanted: bool | None
) -> None:
    (metric,) = _read("argo-analysis.yaml")["spec"]["metrics"]
    web = metric["provider"]["web"]
    assert "/v1/verdicts/{{args.service}}" in web["url"]
    assert web["jsonPath"] == "{$.data.verdict}"
    data = json.loads(json.dumps({"data": verdict("s", firing, heard_s, None, 1000.0)}))["data"]
    conditions = {name: metric[f"{name}Condition"] for name in ("success", "failure")}
    said = {name: text == f'result == "{data["verdict"]}"' for name, text in conditions.items()}
    assert (said["success"], said["failure"]) == (wanted is True, wanted is False)


def test_the_adapters_query_is_the_number_while_fresh_0_in_shadow_and_nothing_when_stale(
    tmp_path: Path,
) -> None:
    (rule,) = _read("prometheus-adapter-values.yaml")["rules"]["external"]
    assert rule["name"]["as"] == keda.METRIC
    query = rule["metricsQuery"].replace("<<.Series>>", "layerwatch_last_evaluation_timestamp_seconds")
    query = query.replace("<<.LabelMatchers>>", 'service="s"')
    (tmp_path / "r.yaml").write_text(
        yaml.safe_dump({"groups": [{"name": "g", "rules": [{"record": "told", "expr": query}]}]})
    )
    evaluated, replicas = "layerwatch_last_evaluation_timestamp_seconds", "layerwatch_recommended_replicas"

    def case(series: dict[str, str], wanted: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "interval": "15s",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [{"expr": "told", "eval_time": "10m", "exp_samples": wanted}],
        }

    def told(value: int) -> list[dict[str, Any]]:
        return [{"labels": 'told{service="s"}', "value": value}]

    here, other = f'{evaluated}{{service="s",job="a"}}', f'{evaluated}{{service="s",job="b"}}'
    tests = [
        case({here: "590x50", other: "580x50", f'{replicas}{{service="s",job="a"}}': "5x50"}, told(5)),
        case({here: "590x50", f'{replicas}{{service="s",job="a"}}': "0x50"}, told(0)),
        case({here: "590x50", f'{replicas}{{service="t",job="a"}}': "5x50"}, told(0)),
        case({here: "500x50"}, []),
    ]
    (tmp_path / "t.yaml").write_text(
        yaml.safe_dump({"rule_files": ["r.yaml"], "evaluation_interval": "15s", "tests": tests})
    )
    ran = subprocess.run(
        [program("promtool"), "test", "rules", "t.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
