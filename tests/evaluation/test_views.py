from __future__ import annotations

import doctest
from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import softmax

from vavl.errors import InputError
from vavl.evaluation import views
from vavl.evaluation.conditions import Condition, take_away
from vavl.evaluation.predictions import PredictionTable
from vavl.evaluation.views import FUSED, View, available_views, readable_view, view_outputs
from vavl.types import Modality

Make = Callable[..., PredictionTable]


def test_examples_in_the_documentation_run() -> None:
    failed, run = doctest.testmod(views)
    assert run > 0
    assert failed == 0


def test_views_are_the_softmax_its_mean_and_its_product(make: Make) -> None:
    table = make(attributes=("arousal",))
    acoustic, visual, both = (softmax(table.logits[m].astype(float), axis=1) for m in Modality)
    product = acoustic * visual
    expected = {
        View.ACOUSTIC: acoustic,
        View.VISUAL: visual,
        View.AUDIOVISUAL: both,
        View.AVERAGE: (acoustic + visual) / 2,
        View.PRODUCT: product / product.sum(axis=1, keepdims=True),
    }
    for view, probabilities in expected.items():
        outputs = view_outputs(table, view)
        np.testing.assert_allclose(outputs.probabilities, probabilities, atol=1e-12)
        assert outputs.present.all()
        assert not outputs.fallback.any()
    a, v = (table.attribute_outputs[m].astype(float) for m in (Modality.ACOUSTIC, Modality.VISUAL))
    np.testing.assert_allclose(view_outputs(table, View.AVERAGE).attributes, (a + v) / 2)
    assert np.isnan(view_outputs(table, View.PRODUCT).attributes).all()


@pytest.mark.parametrize("view", list(View))
@pytest.mark.parametrize("seed", range(5))
def test_probabilities_sum_to_one_exactly_where_a_view_is_present(
    make: Make, view: View, seed: int
) -> None:
    table = make(clips=60, data_seed=seed, without_sound=0.3, without_face=0.3)
    outputs = view_outputs(table, view)
    np.testing.assert_allclose(outputs.probabilities[outputs.present].sum(axis=1), 1)
    assert np.isnan(outputs.probabilities[~outputs.present]).all()
    assert outputs.present.all() == (view in FUSED)


@pytest.mark.parametrize("view", FUSED)
def test_fused_views_fall_back_to_the_modality_that_is_there(make: Make, view: View) -> None:
    table = make(attributes=("arousal",), without_sound=0.2, without_face=0.2)
    outputs = view_outputs(table, view)
    has_sound, has_face = table.present(Modality.ACOUSTIC), table.present(Modality.VISUAL)
    np.testing.assert_array_equal(outputs.fallback, ~(has_sound & has_face))
    for there, alone in ((has_face, View.ACOUSTIC), (has_sound, View.VISUAL)):
        single = view_outputs(table, alone)
        np.testing.assert_array_equal(outputs.probabilities[~there], single.probabilities[~there])
        if view is not View.PRODUCT:
            np.testing.assert_array_equal(outputs.attributes[~there], single.attributes[~there])


def test_the_product_survives_probabilities_that_underflow(make: Make, change: Make) -> None:
    table = make(clips=2, categories=("a", "b", "c"))
    sure = np.array([[2000.0, 0.0, 900.0]] * 2)
    unlike = np.array([[0.0, 2000.0, 1200.0]] * 2)
    opposed = change(table, logits={"acoustic": sure, "visual": unlike, "audiovisual": sure})
    probabilities = view_outputs(opposed, View.PRODUCT).probabilities
    np.testing.assert_allclose(probabilities, [[0, 0, 1]] * 2, atol=1e-30)


def test_the_product_is_of_categories_only(make: Make) -> None:
    both = (View.ACOUSTIC, View.VISUAL, View.AUDIOVISUAL, View.AVERAGE)
    assert available_views(make(categories=(), attributes=("arousal",))) == both
    assert available_views(make()) == (*both, View.PRODUCT)


def test_available_views_need_what_they_are_made_of(make: Make, change: Make) -> None:
    table = make(clips=20)
    absent = np.full((20, 4), np.nan)
    acoustic, visual, both = table.logits.values()

    def found(**logits: np.ndarray) -> set[View]:
        return set(available_views(change(table, logits=logits)))

    assert found(acoustic=acoustic) == {View.ACOUSTIC}
    assert found(audiovisual=both) == {View.AUDIOVISUAL}
    assert found(acoustic=acoustic, visual=visual) == {
        View.ACOUSTIC, View.VISUAL, View.AVERAGE, View.PRODUCT,
    }  # fmt: skip
    # Half the clips have sound, the other half a face: fused views are all that covers both halves.
    half = np.arange(20)[:, None] < 10
    halves = {
        "acoustic": np.where(half, acoustic, absent),
        "visual": np.where(half, absent, visual),
    }
    assert found(**halves) == set(View)
    assert view_outputs(change(table, logits=halves), View.AUDIOVISUAL).fallback.all()


def test_a_model_without_learned_fusion_has_no_audiovisual_prediction_of_paired_clips(
    make: Make, change: Make
) -> None:
    table = make(clips=20)
    unimodal = {m: v for m, v in table.logits.items() if m is not Modality.AUDIOVISUAL}
    outputs = view_outputs(change(table, logits=unimodal), View.AUDIOVISUAL)
    assert not outputs.present.any()
    assert not outputs.fallback.any()


def test_an_unknown_view_is_named(table: PredictionTable) -> None:
    with pytest.raises(InputError, match=r"view: expected one of .*'product'.*, got 'smell'"):
        view_outputs(table, "smell")  # type: ignore[arg-type]


def test_what_the_model_answers(make: Make, change: Make) -> None:
    table = make()
    assert readable_view(table, None) is View.AUDIOVISUAL
    silent = take_away(table, Condition(without_acoustic=1.0))
    assert readable_view(silent, None) is View.VISUAL
    assert readable_view(silent, View.PRODUCT) is View.VISUAL
    unimodal = {m: v for m, v in table.logits.items() if m is not Modality.AUDIOVISUAL}
    never_fused = change(table, logits=unimodal)
    assert readable_view(never_fused, None) is View.AVERAGE
    with pytest.raises(InputError, match="expected one of visual"):
        readable_view(silent, View.ACOUSTIC)
