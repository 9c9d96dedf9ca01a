"""Linear models give away any one record to whoever knows all others: closed forms."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from divulge.errors import BadInputError

Link = Literal["identity", "logistic", "softmax"]
LOUD = 1e-9
"""Share of the largest slope that a record can have, from which its own is more than rounding."""


@dataclass(frozen=True, eq=False)
class LinearModel:
    """A linear, logistic or softmax regression as released, and what is public of its training.

    It minimizes the sum of its records' losses plus `penalty / 2` times its squared weights; the losses are half the
    squared error, or cross-entropy in nats.

    Args:
        weight: float64 `(K, D)`; `K` is 1 for all but softmax.
        bias: `(K,)`, which is not penalized.
        link: which of the three.
        penalty: in units of one record's loss.

    Raises:
        BadInputError: shapes that do not fit, numbers that are not finite, or a negative penalty.
    """

    weight: np.ndarray
    bias: np.ndarray
    link: Link
    penalty: float = 0.0

    def __post_init__(self) -> None:
        outputs = len(self.bias) if np.ndim(self.bias) == 1 else 0
        if np.ndim(self.weight) != 2 or outputs != len(self.weight) or (outputs > 1) != (self.link == "softmax"):
            raise BadInputError(
                f"informed: expected weights (K, D) and biases (K,), K = 1 unless the link is softmax, got shapes "
                f"{np.shape(self.weight)} and {np.shape(self.bias)} with link {self.link}."
            )
        if not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all() and 0 <= self.penalty < np.inf):
            raise BadInputError(
                f"informed: expected finite weights and a penalty of 0 or more, got penalty {self.penalty}."
            )

    @classmethod
    def of(cls, estimator: Any) -> "LinearModel":
        """A fitted scikit-learn LogisticRegression, LinearRegression or Ridge with the default penalty.

        Raises:
            BadInputError: another estimator, one without an intercept, another penalty, or weights of classes, a solver
                or signs under which other equations hold at the minimum.
        """
        name = type(estimator).__name__
        if name not in ("LogisticRegression", "LinearRegression", "Ridge"):
            raise BadInputError(
                f"informed: expected a LogisticRegression, LinearRegression or Ridge of scikit-learn, got {name}."
            )
        if not estimator.fit_intercept:
            raise BadInputError(
                "informed: expected a model with an intercept, whose equation tells how much the record weighs. Fit it "
                "with fit_intercept=True."
            )
        unlike = {
            "class_weight": getattr(estimator, "class_weight", None) is not None,
            "solver": getattr(estimator, "solver", None) == "liblinear",
            "positive": getattr(estimator, "positive", False),
        }
        if changed := [f"{setting}={getattr(estimator, setting)!r}" for setting, is_set in unlike.items() if is_set]:
            raise BadInputError(
                f"informed: expected a sum of unweighted losses with a free intercept and weights of any sign, got "
                f"{' and '.join(changed)}: its minimum meets other equations."
            )
        penalty = 0.0
        if name == "LogisticRegression":
            if (getattr(estimator, "l1_ratio", None) or 0) != 0 or estimator.penalty not in ("l2", "deprecated", None):
                raise BadInputError(
                    f"informed: expected the squared penalty or none, got penalty {estimator.penalty!r} with l1_ratio "
                    f"{estimator.l1_ratio}."
                )
            penalty = 0.0 if estimator.penalty is None else 1 / estimator.C
        elif name == "Ridge":
            penalty = float(estimator.alpha)
        weight, bias = np.atleast_2d(estimator.coef_), np.atleast_1d(estimator.intercept_)
        link: Link = "identity" if name != "LogisticRegression" else "softmax" if len(weight) > 1 else "logistic"
        return cls(np.asarray(weight, np.float64), np.asarray(bias, np.float64), link, penalty)

    def answers(self, inputs: np.ndarray) -> np.ndarray:
        """Predictions or probabilities `(n, K)`."""
        scores = np.asarray(inputs, np.float64) @ self.weight.T + self.bias
        if self.link == "identity":
            return scores
        if self.link == "logistic":
            return np.exp(-np.logaddexp(0, -scores))
        return np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))

    def slopes(self, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Of each record's loss by the scores `(n, K)`."""
        wanted = np.eye(len(self.bias))[targets] if self.link == "softmax" else np.asarray(targets)[:, None]
        return self.answers(inputs) - wanted


@dataclass(frozen=True, eq=False)
class LastRecord:
    """The one record that was not known.

    Args:
        input: float64 `(D,)`.
        target: its class number, or its value.
        slope: length of the slope of its loss by the scores: an error in the weights' equations is divided by it.
    """

    input: np.ndarray
    target: float
    slope: float


def last_record(model: LinearModel, *, inputs: np.ndarray, targets: np.ndarray) -> LastRecord:
    """The one training record that is not among those known, exactly if the training ended at its minimum.

    Balle, Cherubin and Hayes 2022 (arXiv 2201.04845). At the minimum the slopes of all records, times their entries,
    and the penalty's slope add up to nothing, so what the known records leave over is the slope of the last one times
    its entries. The intercept's equation leaves over the slope alone, and so their ratio is the record.

    Args:
        model: as released.
        inputs: of all other records, float64 `(n - 1, D)`.
        targets: their class numbers or values `(n - 1,)`.

    Raises:
        BadInputError: records that do not fit the model, or a last record that left no trace.

    Example:
        A line through (0, 0) and (1, 1) whose second point is not known:

        >>> import numpy as np
        >>> points, values = np.array([[0.0], [1.0], [2.0]]), np.array([0.0, 1.0, 5.0])
        >>> slope, start = np.polyfit(points[:, 0], values, 1)
        >>> model = LinearModel(np.array([[slope]]), np.array([start]), "identity")
        >>> found = last_record(model, inputs=points[:2], targets=values[:2])
        >>> found.input.round(6).tolist(), round(found.target, 6)
        ([2.0], 5.0)
    """
    if np.ndim(inputs) != 2 or inputs.shape[1] != model.weight.shape[1] or np.shape(targets) != (len(inputs),):
        raise BadInputError(
            f"informed: expected known records (n, {model.weight.shape[1]}) and targets (n,), got shapes "
            f"{np.shape(inputs)} and {np.shape(targets)}."
        )
    slopes = model.slopes(inputs, targets)
    mine = -slopes.sum(axis=0)
    product = -(slopes.T @ np.asarray(inputs, np.float64) + model.penalty * model.weight)
    length = float(np.linalg.norm(mine))
    if length <= LOUD * max(1.0, float(np.abs(slopes).max(initial=0.0))):
        raise BadInputError(
            f"informed: the last record left no trace: its slope is {length:.3g}. The model fits it as well as can be, "
            "or it was not in the training."
        )
    record = mine @ product / length**2
    if model.link == "identity":
        target = float(record @ model.weight[0] + model.bias[0] - mine[0])
    else:
        # its own class alone has a negative slope
        target = float(mine.argmin()) if model.link == "softmax" else float(mine[0] < 0)
    return LastRecord(record, target, length)


def read_out(model: LinearModel) -> np.ndarray:
    """The records of a softmax regression that has one of each class, without what they share, `(K, D)`.

    Under a strong penalty every answer is nearly uniform. Each row of the weights, times the penalty, is then its own
    class's record less the mean of all; with several records of a class it is their sum, less as much of the mean.

    Raises:
        BadInputError: no softmax regression, or one without a penalty.
    """
    if model.link != "softmax" or not model.penalty:
        raise BadInputError(
            f"informed: expected a softmax regression with a penalty, got link {model.link} and penalty "
            f"{model.penalty}."
        )
    return model.penalty * model.weight
