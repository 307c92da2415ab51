"""Tests which dtype policy a run computes in."""

from __future__ import annotations

from typing import Any

import pytest

from cnnlib.models import runtime
from cnnlib.training import precision


@pytest.mark.parametrize("configured", ["float32", "mixed_bfloat16"])
def test_a_precision_that_is_asked_for_is_taken(configured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "computes_bfloat16", lambda: pytest.fail("no need to ask"))
    assert precision.choose_precision(configured, strategy=None) == configured


@pytest.mark.parametrize(("able", "policy"), [(True, "mixed_bfloat16"), (False, "float32")])
def test_auto_goes_by_the_hardware(
    strategy: Any,
    able: bool,
    policy: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(precision, "computes_bfloat16", lambda: able)
    assert precision.choose_precision("auto", strategy) == policy
    assert f"precision chosen={policy} workers=1 with_bfloat16={int(able)}" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("flags", "able"), [({"avx2"}, False), ({"avx2", "avx512_bf16"}, True), ({"amx_bf16"}, True)]
)
def test_a_cpu_computes_in_bfloat16_if_it_has_the_instructions(
    flags: set[str], able: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    monkeypatch.setattr(runtime, "cpu_flags", lambda: flags)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert runtime.computes_bfloat16() is able


@pytest.mark.parametrize(("capability", "able"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_computes_in_bfloat16_from_ampere_on(
    capability: tuple[int, int], able: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["gpu"])
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda gpu: {"compute_capability": capability}
    )
    assert runtime.computes_bfloat16() is able
