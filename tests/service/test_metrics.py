"""What is counted."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from streamseg.service.metrics import Metrics


def test_is_read_by_prometheus() -> None:
    metrics = Metrics(lambda: 3.0)
    metrics.frames.inc()
    metrics.error("bad_prompt")
    metrics.stages({"decode": 2.0, "segment": 60.0})
    families = {one.name: one for one in text_string_to_metric_families(metrics.render().decode())}
    assert families["streamseg_queue_depth"].samples[0].value == 3.0
    assert families["streamseg_frames"].samples[0].value == 1.0
    errors = [one for one in families["streamseg_errors"].samples if one.name == "streamseg_errors_total"]
    assert [(one.labels, one.value) for one in errors] == [({"code": "bad_prompt"}, 1.0)]
    stages = {one.labels["stage"] for one in families["streamseg_stage_seconds"].samples}
    assert stages == {"decode", "segment"}


def test_applications_do_not_share_their_counts() -> None:
    first, second = Metrics(lambda: 0.0), Metrics(lambda: 0.0)
    first.frames.inc()
    assert second.registry.get_sample_value("streamseg_frames_total") == 0.0
