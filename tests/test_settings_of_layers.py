"""Whole numbers that layers are given: kept as tuples of integers, or refused by their name."""

import re

import numpy as np
import pytest

import jacobians as jb

KERNEL = np.ones((2, 3, 2, 2))
SETTINGS = {  # the layer that is made of them, and what it keeps
    "Permute: axes": (jb.Permute, "axes", 0),
    "Reshape: new_shape": (jb.Reshape, "new_shape", -1),
    "Pad: widths": (lambda pair: jb.Pad([pair]), "widths", 0),
    "Convolution: stride": (lambda n: jb.Convolution(KERNEL, stride=n), "stride", 1),
    "Convolution: dilation": (lambda n: jb.Convolution(KERNEL, dilation=n), "dilation", 1),
    "Convolution: padding": (lambda n: jb.Convolution(KERNEL, padding=n), "padding", 0),
    "TransposedConvolution: stride": (
        lambda n: jb.TransposedConvolution(KERNEL, stride=n),
        "stride",
        1,
    ),
}
PAIRS = {"Pad: widths": ((2, 1),), "Convolution: padding": ((2, 2), (1, 1))}
every_setting = pytest.mark.parametrize("name", SETTINGS)


def numbers_in(kept):
    return [n for part in kept for n in numbers_in(part)] if isinstance(kept, tuple) else [kept]


@every_setting
@pytest.mark.parametrize("given", [(2, 1), [np.int64(2), 1]], ids=str)
def test_whole_numbers_are_kept_as_tuples_of_integers(name, given):
    """However they came, so that layers compare, copy and are written to files."""
    make, field, _ = SETTINGS[name]
    kept = getattr(make(given), field)
    assert kept == PAIRS.get(name, (2, 1))
    assert {type(n) for n in numbers_in(kept)} == {int}


@every_setting
@pytest.mark.parametrize("value", [1.5, None, "a"])
def test_what_is_no_whole_number_is_refused_by_its_name(name, value):
    with pytest.raises(TypeError, match=f"^{name}: expected a whole number"):
        SETTINGS[name][0]([2, value])


@every_setting
def test_a_number_below_the_least_is_refused_by_its_name(name):
    make, _, least = SETTINGS[name]
    make([2, least])
    demand = re.escape(f"{name}: expected at least {least}, but got {least - 1}.")
    with pytest.raises(ValueError, match=f"^{demand}"):
        make([2, least - 1])
