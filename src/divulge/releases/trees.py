"""A decision tree, published with the counts of training records in its leaves."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from divulge.errors import BadInputError


@dataclass(frozen=True, eq=False)
class Tree:
    """A binary tree that sends a record left where its column is at most a threshold.

    Args:
        column: what each node looks at, int64 `(nodes,)`; negative for a leaf.
        threshold: float64 `(nodes,)`.
        left: the next node where the column is at most the threshold, int64 `(nodes,)`.
        right: the next node elsewhere.
        counts: training records of each class that came to each node, float64 `(nodes, classes)`.
        width: columns of a record.
    """

    column: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    counts: np.ndarray
    width: int

    @property
    def leaves(self) -> np.ndarray:
        """Numbers of the nodes that are leaves."""
        return np.flatnonzero(self.column < 0)

    def arrive(self, records: np.ndarray) -> np.ndarray:
        """The leaf of each record `(n, width)`, by its node's number `(n,)`."""
        node, rows = np.zeros(len(records), dtype=np.int64), np.arange(len(records))
        while len(rows):
            rows = rows[self.column[node[rows]] >= 0]
            here = node[rows]
            low = records[rows, self.column[here]] <= self.threshold[here]
            node[rows] = np.where(low, self.left[here], self.right[here])
        return node

    def allows(self, places: tuple[int, ...], written: np.ndarray) -> np.ndarray:
        """Whether a record that holds `written[v]` at `places` can come to a node, bool `(nodes, values)`.

        What it holds elsewhere is left open.
        """
        open_to = np.ones((len(self.column), len(written)), dtype=bool)
        held = np.zeros((self.width, len(written)))
        held[list(places)] = written.T
        own = np.isin(np.arange(self.width), places)
        level = np.zeros(1, dtype=np.int64)
        while len(level := level[self.column[level] >= 0]):
            looks_at, fixed = self.column[level], own[self.column[level]][:, None]
            low = held[looks_at] <= self.threshold[level, None]
            open_to[self.left[level]] = open_to[level] & (low | ~fixed)
            open_to[self.right[level]] = open_to[level] & (~low | ~fixed)
            level = np.concatenate([self.left[level], self.right[level]])
        return open_to


def published(model: Any, *, classes: int, columns: list[int], width: int) -> tuple[Tree, ...]:
    """The trees of a fitted scikit-learn decision tree or forest, with their counts.

    Args:
        model: `DecisionTreeClassifier`, `RandomForestClassifier` and the like.
        classes: how many the data has.
        columns: class number of each of the model's own classes.
        width: columns of a record.

    Raises:
        BadInputError: no tree with counts of classes, not fitted, or fitted on another number of columns.
    """
    label = type(model).__name__
    grown = [model] if hasattr(model, "tree_") else list(getattr(model, "estimators_", []))
    if not grown or any(getattr(one, "tree_", None) is None or not hasattr(one, "classes_") for one in grown):
        raise BadInputError(
            f"{label}: expected a fitted decision tree or a forest of them, whose leaves count records of each class."
        )
    fitted = model.n_features_in_
    if fitted != width:
        raise BadInputError(
            f"{label} was fitted on {fitted} columns and the records have {width}. Give the table that it was fitted "
            "on, its columns in the same order."
        )
    return tuple(_tree(one.tree_, classes, columns, width) for one in grown)


def _tree(grown: Any, classes: int, columns: list[int], width: int) -> Tree:
    share = grown.value[:, 0, :] / grown.value[:, 0, :].sum(axis=1, keepdims=True)
    counts = np.zeros((grown.node_count, classes))
    counts[:, columns] = share * grown.weighted_n_node_samples[:, None]
    return Tree(
        grown.feature.astype(np.int64),
        grown.threshold.astype(np.float64),
        grown.children_left.astype(np.int64),
        grown.children_right.astype(np.int64),
        counts,
        width,
    )
