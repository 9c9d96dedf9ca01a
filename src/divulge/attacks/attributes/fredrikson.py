"""Model inversion of an attribute as it was first described: by the counts of a tree, or by its mistakes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from divulge.attacks.attributes.base import AttributeGuesses
from divulge.attacks.attributes.blanked import BlankAttack, Blanked, marginal, needs_column, normalized
from divulge.attacks.attributes.confidence import tried
from divulge.attacks.knowledge import Knowledge
from divulge.errors import BadInputError
from divulge.releases import Posteriors
from divulge.releases.trees import Tree


@dataclass(frozen=True)
class TreeCounts(BlankAttack):
    """Weighs each value by how much of the training data lies in the leaf that the record would come to with it.

    Fredrikson, Jha and Ristenpart 2015 (doi 10.1145/2810103.2813677), the white-box estimator with counts: with
    `p_i` the share of training records in leaf `i`, `S` the leaves that the known columns and the class lead to, and
    `phi_i(v)` whether leaf `i` admits the value `v`,

        P(v) ~ sum over S of p_i phi_i(v) / sum over all leaves of p_j phi_j(v) * prior(v).

    A leaf agrees with a class if most of its records have it; where none does under any value, the class is left out.
    The prior is that of the adversary's records, or one for each record. Of a forest, each tree's probabilities are
    averaged, which is ours.
    """

    name: ClassVar[str] = "tree-counts"
    source: ClassVar[str] = "Fredrikson et al. 2015, doi 10.1145/2810103.2813677"

    def run(
        self, release: Sequence[Tree], blanked: Blanked, *, knowledge: Knowledge, prior: np.ndarray | None = None
    ) -> AttributeGuesses:
        """Weigh each value.

        Args:
            release: the trees.
            blanked: the records.
            knowledge: with the adversary's own records in `data`.
            prior: of each value `(n, values)`, such as what imputation makes of each record; by default the shares
                among the adversary's records.

        Raises:
            BadInputError: no trees, trees fitted on other columns or without the attribute, no records of the
                adversary's own, or a defense that is named.
        """
        needs_column(self.name, blanked.column)
        _, _, truth = self.own(knowledge, blanked.column)
        if prior is None:
            prior = np.tile(marginal(truth, len(blanked.column.values)), (len(blanked), 1))
        if not release or any(tree.width != blanked.column.width for tree in release):
            widths = sorted({tree.width for tree in release})
            raise BadInputError(
                f"{self.name}: expected trees on {blanked.column.width} columns, got "
                f"{f'trees on {widths}' if widths else 'none'}. Give the table that they were fitted on."
            )
        whole = [records.numpy() for records in blanked.filled()]
        each = [_weighed(tree, whole, blanked, prior) for tree in release]
        return AttributeGuesses(np.mean(each, axis=0))


def _weighed(tree: Tree, whole: list[np.ndarray], blanked: Blanked, prior: np.ndarray) -> np.ndarray:
    """Probabilities `(n, values)` out of one tree."""
    counts = tree.counts.sum(axis=1)
    column = blanked.column
    admits = tree.allows(column.places, column.written.numpy())[tree.leaves]
    mass = counts[tree.leaves] @ admits
    leaf = np.stack([tree.arrive(records) for records in whole], axis=1)
    agrees = tree.counts.argmax(axis=1)[leaf] == blanked.labels[:, None]
    agrees |= ~agrees.any(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = np.where(mass > 0, counts[leaf] / mass, 0)
    return normalized(weight * agrees * prior, prior)


@dataclass(frozen=True)
class Mistakes(BlankAttack):
    """Weighs each value by how often a record to which the model gives that answer has the record's class.

    Fredrikson et al. 2014 and 2015 (doi 10.1145/2810103.2813677), the black-box estimator: the answer under each value
    is looked up in the model's confusion matrix, `P(v) ~ P(class | answer under v) * prior(v)`. Matrix and prior are
    those of the adversary's records; the marginals of the other columns, all of which are known, cancel. One count is
    added to each cell, so that a class never seen is no certainty.
    """

    name: ClassVar[str] = "mistakes"
    source: ClassVar[str] = "Fredrikson et al. 2015, doi 10.1145/2810103.2813677"

    def run(self, release: Posteriors, blanked: Blanked, *, knowledge: Knowledge) -> AttributeGuesses:
        """Ask about the adversary's records, then about each record once for each value.

        Raises:
            BadInputError: the model's inputs do not hold the attribute, no records of the adversary's own, or a defense
                that is named.
        """
        needs_column(self.name, blanked.column)
        data, _, truth = self.own(knowledge, blanked.column)
        prior = marginal(truth, len(blanked.column.values))
        confusion = np.ones((release.classes, release.classes))
        np.add.at(confusion, (data.targets.numpy(), release.logits(data.inputs).argmax(axis=1)), 1)
        of_class = confusion / confusion.sum(axis=0)
        answers = tried(release, blanked).argmax(axis=2)
        return AttributeGuesses(normalized(of_class[blanked.labels[:, None], answers] * prior, prior))
