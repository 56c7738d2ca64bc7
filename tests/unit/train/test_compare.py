import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_detector.train.compare import Limits, compare
from anomaly_detector.train.evaluate import Judgement

LIMITS = Limits(target_rate=0.15)
SHARES = st.floats(0, 1)


def judged(*, rate=0.15, proxy=0.95, pr_auc=None):
    return Judgement(rows=100, anomaly_rate=rate, proxy_roc_auc=proxy, pr_auc=pr_auc)


@pytest.mark.parametrize(("new", "not_worse"), [(0.9, True), (0.8, True), (0.785, True), (0.775, False), (0.1, False)])
def test_with_labels_pr_auc_alone_decides(new, not_worse):
    assert compare(judged(pr_auc=new, rate=0.9, proxy=0.1), judged(pr_auc=0.8), LIMITS).not_worse is not_worse


@pytest.mark.parametrize(
    ("new", "not_worse"),
    [
        (judged(), True),
        (judged(rate=0.19), True),
        (judged(rate=0.101), True),
        (judged(rate=0.21), False),
        (judged(rate=0.02), False),
        (judged(proxy=0.935), True),
        (judged(proxy=0.925), False),
        (judged(proxy=0.5, pr_auc=0.99), False),
    ],
)
def test_without_labels_rate_and_synthetic_auc_decide(new, not_worse):
    assert compare(new, judged(), LIMITS).not_worse is not_worse


def test_when_both_are_off_the_target_the_nearer_one_is_not_worse():
    holder = judged(rate=0.40)
    assert compare(judged(rate=0.30), holder, LIMITS).not_worse
    assert not compare(judged(rate=0.50), holder, LIMITS).not_worse


def test_the_verdict_says_the_numbers_failed_tests_first():
    verdict = compare(judged(rate=0.5, proxy=0.99), judged(), LIMITS)
    assert str(verdict) == (
        "anomaly rate 50.0% is not within 15.0% ± 5.0%, and farther from it than the holder's 15.0%; "
        "ROC AUC (synthetic) 0.990 is not below the holder's 0.950 less 0.02"
    )


@given(rate=SHARES, proxy=SHARES, pr_auc=st.none() | SHARES)
def test_no_version_is_worse_than_itself(rate, proxy, pr_auc):
    same = judged(rate=rate, proxy=proxy, pr_auc=pr_auc)
    assert compare(same, same, LIMITS).not_worse
