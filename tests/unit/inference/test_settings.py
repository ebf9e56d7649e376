import pytest

from services.inference.settings import Settings


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ({"max_queue": 0}, "--max-queue"),
        ({"page_tokens": 24}, "--page-tokens"),
        ({"threads": -1}, "--threads"),
        ({"threads": 1025}, "--threads"),
        ({"drain_grace_s": float("nan")}, "--drain-grace-s"),
        ({"drain_grace_s": float("inf")}, "--drain-grace-s"),
        ({"max_rank": 4097}, "--max-rank"),
        ({"base_model": "\udcff"}, "--base-model"),
        ({"base_model": "a\nb"}, "--base-model"),
        ({"listen": "nowhere"}, "nowhere"),
        ({"metrics_port": 65536}, "--metrics-port"),
        ({"metrics_host": "nowhere"}, "--metrics-host"),
        ({"metrics_tenants": -1}, "--metrics-tenants"),
        ({"otlp_endpoint": "collector:4317"}, "--otlp-endpoint"),
        ({"trace_ratio": 1.5}, "--trace-ratio"),
        ({"vllm_metrics": True}, "--vllm-metrics: needs --metrics-port"),
    ],
)
def test_what_cannot_be_served_names_its_flag(tmp_path, values, flag):
    with pytest.raises(ValueError, match=flag):
        Settings(model=tmp_path, **values)


def test_the_model_is_named_after_its_directory(tmp_path):
    assert Settings(model=tmp_path).base_model_name == tmp_path.name
    assert Settings(model=tmp_path, base_model="a/b").base_model_name == "a/b"
