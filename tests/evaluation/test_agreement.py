import numpy as np
import pytest
from evaluation_fakes import make_instance

from rsis_tf.evaluation.metrics.agreement import agreement


def row(start, stop):
    mask = np.zeros((1, 12), bool)
    mask[0, start:stop] = True
    return mask


def test_agreement_is_the_sum_of_the_paired_ious_over_the_larger_number():
    ours = [make_instance(row(0, 4)), make_instance(row(6, 8))]
    theirs = [make_instance(row(6, 8)), make_instance(row(2, 4)), make_instance(row(10, 12))]
    # Pairs with an IoU of 1 and 2/4; the third instance has no partner.
    assert agreement(ours, theirs) == pytest.approx((1 + 0.5) / 3)
    assert agreement(theirs, ours) == pytest.approx((1 + 0.5) / 3)


def test_each_instance_is_paired_only_once_and_only_within_its_class():
    ours = [make_instance(row(0, 4)), make_instance(row(0, 4), 2)]
    assert agreement(ours, ours) == 1
    assert agreement(ours, [make_instance(row(0, 4)), make_instance(row(0, 4))]) == 0.5
    assert agreement([make_instance(row(0, 4))], [make_instance(row(0, 4), 2)]) == 0


def test_two_empty_predictions_agree_and_one_empty_prediction_does_not():
    assert agreement([], []) == 1
    assert agreement([make_instance(row(0, 4))], []) == 0


def test_two_empty_masks_of_a_class_agree():
    empty = make_instance(row(0, 0))
    assert agreement([empty], [empty]) == 1
    assert agreement([empty], [make_instance(row(0, 4))]) == 0
