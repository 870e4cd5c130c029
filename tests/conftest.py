"""Hypothesis profiles: ``pytest --hypothesis-profile=large`` runs 10,000 cases of every law."""

import guard
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

guard.install()

_common = {
    "deadline": None,  # shared machines pause; speed has its own benchmarks
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
# The same cases on every machine: this profile says whether a change is right, and the larger ones
# roll new dice each time.
settings.register_profile("ci", max_examples=100, derandomize=True, **_common)
settings.register_profile("quick", max_examples=20, **_common)
settings.register_profile("large", max_examples=10_000, **_common)
settings.register_profile("long", max_examples=200_000, **_common)
settings.load_profile("ci")


@pytest.fixture
def rng():
    return np.random.default_rng(0)
