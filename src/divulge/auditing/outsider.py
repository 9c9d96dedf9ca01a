"""What can be guessed without the model: a classifier that sees records alone."""

import numpy as np

from divulge.data import Dataset
from divulge.metrics import Finding, auc

ROWS = 2_000


def without_model(members: Dataset, nonmembers: Dataset, *, seed: int) -> Finding | None:
    """AUC of telling members from non-members by the records alone; above 0.5 the two sets differ in kind.

    Logistic regression on the leading principal components and the label, cross-fitted in five folds, on at most 2,000
    records a side. An attack that merely recognizes the kind of record would score as high (Das, Zhang and Tramer 2024,
    arXiv 2406.16201).

    Returns:
        The finding, or None with fewer than 25 records a side.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if min(len(members), len(nonmembers)) < 25:
        return None
    rng = np.random.default_rng(seed)
    sides = [side[rng.permutation(len(side))[:ROWS]] for side in (members, nonmembers)]
    pixels = np.concatenate([side.inputs.flatten(1).numpy() for side in sides])
    labels = np.concatenate([side.targets.numpy() for side in sides])
    truth = np.repeat([True, False], [len(side) for side in sides])
    components = min(30, pixels.shape[1], len(pixels) // 3)
    reduced = PCA(components, svd_solver="randomized", random_state=seed).fit_transform(pixels)
    features = np.concatenate([reduced, np.eye(members.num_classes)[labels]], axis=1)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
    scores = cross_val_predict(model, features, truth, cv=folds, method="decision_function")
    return Finding("AUC without the model", *auc(scores, truth), n=len(truth))
