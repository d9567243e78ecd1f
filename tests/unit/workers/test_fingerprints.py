from __future__ import annotations

from pathlib import Path

import pytest

from workers.fingerprints import fingerprint, model_digest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.bin").write_bytes(b"weights")
    return tmp_path


def digest_of(model: Path) -> str:
    model_digest.cache_clear()
    return model_digest(str(model))


def test_a_fingerprint_depends_on_values_and_not_on_their_order() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1, "b": [2]}) != fingerprint({"a": 1, "b": [3]})


def test_other_weights_are_another_model(model: Path) -> None:
    before = digest_of(model)
    (model / "model.bin").write_bytes(b"other weights")
    assert digest_of(model) != before


def test_a_file_under_another_name_is_another_model(model: Path) -> None:
    before = digest_of(model)
    (model / "model.bin").rename(model / "model2.bin")
    assert digest_of(model) != before


def test_a_model_s_description_is_not_the_model(model: Path) -> None:
    before = digest_of(model)
    (model / "README.md").write_text("Better than ever.")
    assert digest_of(model) == before


def test_a_name_from_a_hub_stands_for_itself() -> None:
    assert model_digest("large-v3") == "large-v3"
