"""How well it went: pure functions over arrays."""

from divulge.metrics.classification import accuracy, macro_scores
from divulge.metrics.finding import Finding
from divulge.metrics.intervals import Estimate, bootstrap, clopper_pearson
from divulge.metrics.membership import (
    benjamini_hochberg,
    conformal_p_values,
    positive_predictive_value,
    score_membership,
    tpr_metric,
)
from divulge.metrics.repeats import over_repeats
from divulge.metrics.roc import auc, auc_difference, balanced_accuracy, roc_curve, thinned, tpr_at_fpr

__all__ = [
    "Estimate",
    "Finding",
    "accuracy",
    "auc",
    "auc_difference",
    "balanced_accuracy",
    "benjamini_hochberg",
    "bootstrap",
    "clopper_pearson",
    "conformal_p_values",
    "macro_scores",
    "over_repeats",
    "positive_predictive_value",
    "roc_curve",
    "score_membership",
    "thinned",
    "tpr_at_fpr",
    "tpr_metric",
]
