"""Tests here compute in float64, from one seed."""

import pytest


@pytest.fixture(autouse=True)
def _in_float64(float64):
    """Ask for the fixture `float64` in every test of this folder."""
