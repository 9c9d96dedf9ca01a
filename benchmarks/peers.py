"""The peers' attacks on the same target at the same number of shadow models; runs in an environment of their own.

`python peers.py sacroml|art|target TASK.npz` prints one JSON object: `seconds` and member `scores`, or for `target` the
target's posteriors.
"""

import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

Split = tuple[np.ndarray, np.ndarray]


def sacroml(target: MLPClassifier, members: Split, nonmembers: Split, shadows: int) -> Callable[[], np.ndarray]:
    """Online LiRA with one variance for all records, which does better than its default at this many shadow models."""
    from sacroml.attacks.likelihood_attack import LIRAAttack
    from sacroml.attacks.target import Target

    def run() -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            attack = LIRAAttack(
                output_dir=folder,
                write_report=False,
                n_shadow_models=shadows,
                mode="online-carlini",
                fix_variance=True,
                report_individual=True,
            )
            attack.attack(
                Target(
                    model=target,
                    X_train=members[0],
                    y_train=members[1],
                    X_test=nonmembers[0],
                    y_test=nonmembers[1],
                )
            )
        return np.asarray(attack.result["member_prob"])

    return run


def art(target: MLPClassifier, members: Split, nonmembers: Split, shadows: int) -> Callable[[], np.ndarray]:
    """The black-box attack, its random forest trained on what shadow models answer."""
    from art.attacks.inference.membership_inference import MembershipInferenceBlackBox, ShadowModels
    from art.estimators.classification import SklearnClassifier

    records, numbers = (np.concatenate(pair) for pair in zip(members, nonmembers, strict=True))
    labels = np.eye(len(target.classes_), dtype=np.float32)[numbers]

    def run() -> np.ndarray:
        shadow = ShadowModels(SklearnClassifier(target), num_shadow_models=shadows, random_state=0)
        (x, y, told), (other_x, other_y, other_told) = shadow.generate_shadow_dataset(records, labels, 0.5)
        attack = MembershipInferenceBlackBox(SklearnClassifier(target), attack_model_type="rf")
        attack.fit(x, y, other_x, other_y, pred=told, test_pred=other_told)
        return attack.infer(records, labels, probabilities=True)[:, -1]

    return run


def main(which: str, path: str) -> None:
    """Fit the target, attack it, print."""
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    with np.load(path, allow_pickle=False) as task:
        records, labels, count = task["records"], task["labels"], int(task["members"])
        shadows, settings = int(task["shadows"]), json.loads(str(task["settings"]))
    members, nonmembers = (records[:count], labels[:count]), (records[count:], labels[count:])
    target = MLPClassifier(**settings).fit(*members)
    if which == "target":
        print(json.dumps({"posteriors": target.predict_proba(records).tolist()}))
        return
    run = {"sacroml": sacroml, "art": art}[which](target, members, nonmembers, shadows)
    start = time.perf_counter()
    scores = run()
    print(json.dumps({"seconds": time.perf_counter() - start, "scores": scores.tolist()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
