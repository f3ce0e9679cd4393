import pytest
from pydantic import ValidationError

from service.settings import Settings


def test_reads_lists_from_the_environment(monkeypatch):
    monkeypatch.setenv("LATENTD_MODELS", "digits-vae@2, faces ,")
    monkeypatch.setenv("LATENTD_BUCKETS", "8,1, 8,2")
    settings = Settings()
    assert settings.models == ("digits-vae@2", "faces")
    assert settings.buckets == (1, 2, 8)


def test_takes_tuples_as_they_are():
    settings = Settings(models=("a", "b"), buckets=(4, 2))
    assert settings.models == ("a", "b")
    assert settings.buckets == (2, 4)


def test_empty_models_means_all(monkeypatch):
    monkeypatch.setenv("LATENTD_MODELS", "")
    assert Settings().models == ()


@pytest.mark.parametrize("buckets", ["0,4", "-1", "four"])
def test_refuses_buckets_that_are_no_batch_sizes(monkeypatch, buckets):
    monkeypatch.setenv("LATENTD_BUCKETS", buckets)
    with pytest.raises(ValidationError, match="buckets"):
        Settings()


def test_refuses_a_queue_smaller_than_a_request():
    with pytest.raises(ValidationError, match="raise it, or lower max_rows"):
        Settings(max_queue_rows=10, max_rows=11)
    assert Settings(max_queue_rows=11, max_rows=11).max_queue_rows == 11


def test_is_immutable():
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1
