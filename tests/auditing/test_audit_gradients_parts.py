"""What an audit of gradients is made of: how it chooses, grades, completes batches, and speaks of layers."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from divulge.attacks.gradients import GradientAttack, Reconstructions
from divulge.attacks.gradients.first_layer import FirstLayer
from divulge.attacks.gradients.precode_closed_form import PrecodeClosedForm
from divulge.attacks.knowledge import Knowledge
from divulge.auditing.access import divided, releases, require_used
from divulge.auditing.gradients.audit import Exchange, Sharing, prepare
from divulge.auditing.gradients.audit_cases import CLEAR, Case, Tried
from divulge.auditing.gradients.audit_grade import grade
from divulge.auditing.gradients.audit_scores import scored
from divulge.auditing.gradients.audit_steps import Judged, unexplained, victims_of
from divulge.auditing.gradients.audit_strongest import Rebuilt, completed, strongest
from divulge.auditing.gradients.telling_layers import layers
from divulge.auditing.targets import as_target
from divulge.data import Dataset
from divulge.defenses import DEFENSES
from divulge.defenses.precode import Precode
from divulge.errors import BadInputError
from divulge.models import seeded
from divulge.models.lenet import LeNet
from divulge.models.mlp import MLP
from divulge.releases import Tampering, share
from divulge.runs.engines import LocalEngine
from divulge.runs.step import Artifact
from divulge.runs.store import Store

SHAPE, CLASSES = (1, 8, 8), 3


def pictures(count, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, *SHAPE, generator=generator)


def exchange(tmp_path: Path, *, batch=1, count=60) -> Exchange:
    data = Dataset(pictures(count), torch.arange(count) % CLASSES, classes=tuple("abc"))
    model = MLP((16,)).build(SHAPE, CLASSES, seed=0)
    target = as_target(model, classes=data.classes, probe=data.inputs[:4])
    return prepare(
        target, data, Sharing((batch,)), budget="standard", store=Store(tmp_path), engine=LocalEngine(1), seed=0
    )


@dataclasses.dataclass(frozen=True)
class Told(GradientAttack):
    """An attack that says the same of every victim."""

    values: tuple[float, ...] = ()

    def invert(self, records, model, *, knowledge, generator):
        inputs = torch.tensor(self.values).view(1, -1, *SHAPE).expand(len(records), -1, -1, -1, -1)
        return Reconstructions(inputs, None, torch.zeros(len(records)))


@dataclasses.dataclass(frozen=True)
class Elsewhere(GradientAttack):
    """An attack that gives pictures of its own."""

    def invert(self, records, model, *, knowledge, generator):
        inputs = torch.stack([pictures(one.batch_size, seed=9) for one in records])
        return Reconstructions(inputs, None, torch.zeros(len(records)))


def tried(records, unexplained, found=None):
    records = torch.as_tensor(records)
    found = np.ones(records.shape[:2], dtype=bool) if found is None else found
    arrays = {"reconstructions": records.numpy(), "found": found, "unexplained": np.asarray(unexplained)}
    return Tried((Artifact(arrays),), 1.0)


def truth_of(audit, batch=1):
    return audit.corpus.part(victims_of(batch)).inputs.unflatten(0, (-1, batch))


def test_the_attackers_own_loss_decides_and_never_the_truth(tmp_path):
    audit = exchange(tmp_path)
    truth = truth_of(audit)
    near, far = tried(truth, np.full(len(truth), 0.3)), tried(pictures(len(truth), seed=9)[:, None], [0.2] * len(truth))
    best = strongest(audit, Case(1, len(truth)), {"near": near, "far": far})
    assert set(best.chosen) == {"far"}, "it explains more of the gradient, whatever it looks like"
    assert best.scores["exact"].sum() == 0


def test_what_nobody_rebuilt_counts_as_zeros_and_is_never_exact(tmp_path):
    audit = exchange(tmp_path)
    count = len(truth_of(audit))
    nothing = tried(torch.zeros(count, 1, *SHAPE), np.ones(count), np.zeros((count, 1), dtype=bool))
    best = strongest(audit, Case(1, count), {"nothing": nothing})
    assert set(best.chosen) == {"none"}
    assert not best.scores["recognizable"].any()
    black = torch.zeros(1, 1, *SHAPE)
    assert not scored(audit, black, torch.zeros(1, 1, dtype=torch.bool), black)["exact"][0]
    assert scored(audit, black, torch.ones(1, 1, dtype=torch.bool), black)["exact"][0]


def test_a_batch_known_in_part_is_completed_from_one_known_roughly(tmp_path):
    audit = exchange(tmp_path, batch=3)
    truth = truth_of(audit, 3)
    count = len(truth)
    rough = (truth + 0.1 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    some = np.zeros((count, 3), dtype=bool)
    some[:, 0] = True
    partial = tried(truth * torch.from_numpy(some)[..., None, None, None], np.ones(count), some)
    best = strongest(audit, Case(3, count), {"partial": partial, "rough": tried(rough[:, [2, 0, 1]], [0.2] * count)})
    assert best.found.all()
    assert best.scores["exact"].reshape(count, 3).sum(axis=1).tolist() == [1] * count
    assert (best.scores["psnr"] > 15).all()
    batch = completed(truth[0] * 1.0, np.array([True, False, False]), rough[0][[1, 2, 0]])
    assert sum(torch.equal(one, truth[0, 0]) for one in batch) == 1


def rebuilt(audit, records):
    count = len(records)
    return strongest(audit, Case(1, count), {"search": tried(records[:, None], np.full(count, 0.5))})


def test_records_that_have_nothing_to_do_with_the_gradient_are_no_evidence(tmp_path):
    audit = exchange(tmp_path)
    count = len(truth_of(audit))
    bands = [grade(rebuilt(audit, pictures(count, seed=seed)), seed=seed).band for seed in range(1, 21)]
    assert np.mean(np.array(bands) > 0) <= 0.1
    assert max(bands) <= 1


def blend(audit, share_of_truth):
    truth = truth_of(audit)[:, 0]
    return share_of_truth * truth + (1 - share_of_truth) * pictures(len(truth), seed=5)


@pytest.mark.parametrize(("kept", "band"), [(1.0, 4), (0.9, 3), (0.15, 1)])
def test_bands_rise_with_what_comes_back(tmp_path, kept, band):
    audit = exchange(tmp_path)
    assert grade(rebuilt(audit, blend(audit, kept)), seed=0).band == band


def test_one_exact_record_is_strong_evidence(tmp_path):
    audit = exchange(tmp_path)
    mixed = pictures(len(truth_of(audit)), seed=5)
    mixed[0] = truth_of(audit)[0, 0]
    found = grade(rebuilt(audit, mixed), seed=0)
    assert found.band == 3
    assert found.exact.low < found.exact.value < found.exact.high


def test_intervals_are_over_clients_not_over_records(tmp_path):
    one, three = exchange(tmp_path / "1"), exchange(tmp_path / "3", batch=3)
    counts = []
    for audit, batch in ((one, 1), (three, 3)):
        truth = truth_of(audit, batch)[:5]
        own = grade(strongest(audit, Case(batch, 5), {"all": tried(truth, [0.0] * 5)}), seed=0)
        counts.append((own.exact.low, own.clients))
    assert counts[0] == counts[1], "five clients are five draws, whatever they hold"


def test_the_common_loss_knows_the_truth_from_other_records_and_ignores_scale():
    model = MLP((16,)).build(SHAPE, CLASSES, seed=0)
    inputs, targets = pictures(2), torch.tensor([0, 2])
    record = share(model, inputs, targets)
    assert unexplained(record, model, inputs, targets, Tampering()) < 1e-6
    assert unexplained(record, model, inputs, None, Tampering()) < 1e-6, "labels can be read"
    assert unexplained(record, model, pictures(2, seed=3), targets, Tampering()) > 0.1
    facts = {name: value for name, value in vars(record).items() if name != "gradients"}
    halved = type(record)({name: one / 2 for name, one in record.gradients.items()}, **facts)
    assert unexplained(halved, model, inputs, targets, Tampering()) < 1e-6
    first = next(iter(record.gradients))
    wrong = {name: torch.randn_like(one) if name == first else one for name, one in record.gradients.items()}
    noisy = type(record)(wrong, **facts)
    assert unexplained(noisy, model, inputs, targets, Tampering()) > 0.5
    assert unexplained(noisy, model, inputs, targets, Tampering(withheld=(first,))) < 1e-6


@pytest.mark.parametrize("attack", [FirstLayer(), PrecodeClosedForm()])
def test_an_exact_answer_explains_the_gradient_of_a_model_that_draws(attack):
    model = Precode().architecture(MLP((256, 64)).build(SHAPE, CLASSES, seed=0))
    inputs, targets = pictures(1), torch.tensor([2])
    record = share(model, inputs, targets, seed=7)
    judged = Judged(attack).run(record, model, generator=torch.Generator().manual_seed(0))
    assert float(judged.matching) < CLEAR
    assert unexplained(record, model, inputs, targets, Tampering()) > 100 * CLEAR, "other noise tells otherwise"
    wrong = Judged(Elsewhere()).run(record, model, generator=torch.Generator().manual_seed(0))
    assert float(wrong.matching) > 100 * CLEAR, "another record is no answer, whatever was drawn"


def test_an_oracle_plays_again_what_a_batch_drew():
    defense = Precode()
    model = defense.architecture(MLP((256, 64)).build(SHAPE, CLASSES, seed=0))
    inputs, targets = pictures(2), torch.tensor([0, 2])
    sent = defense.share(
        share(model, inputs, targets),
        model=model,
        inputs=inputs,
        targets=targets,
        generator=torch.Generator().manual_seed(3),
    )
    left = [
        float(
            Judged(Told(tuple(inputs.flatten().tolist())))
            .run(
                sent.record,
                model,
                knowledge=Knowledge(defense=defense, randomness=drawn),
                generator=torch.Generator().manual_seed(0),
            )
            .matching
        )
        for drawn in (None, (sent.randomness,))
    ]
    assert left[1] < CLEAR < left[0]


def test_who_knows_more_takes_what_who_knows_less_surely_has(tmp_path):
    audit = exchange(tmp_path)
    truth = truth_of(audit)
    count = len(truth)
    rough = tried(pictures(count, seed=9)[:, None], [0.3] * count)
    sure, unsure = tried(truth, [0.0] * count), tried(truth, [0.1] * count)
    case = Case(1, count, adversary="adaptive")
    chosen = [set(strongest(audit, case, {"own": rough}, lesser={"less": one}).chosen) for one in (sure, unsure)]
    assert chosen == [{"less"}, {"own"}], "what the two measure without being sure cannot be compared"
    nothing = tried(torch.zeros(count, 1, *SHAPE), np.ones(count), np.zeros((count, 1), dtype=bool))
    assert set(strongest(audit, case, {"own": nothing}, lesser={"less": unsure}).chosen) == {"less"}


def test_the_first_clients_are_those_alone(tmp_path):
    audit = exchange(tmp_path, batch=3)
    truth = truth_of(audit, 3)
    whole = strongest(audit, Case(3, 5), {"all": tried(truth[:5], [0.0] * 5)})
    few = strongest(audit, Case(3, 2), {"all": tried(truth[:2], [0.0] * 2)})
    assert grade(whole.first(2), seed=0) == grade(few, seed=0)


class Functional(nn.Module):
    """A network that calls its activation outside of its layers."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(256, CLASSES)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)).flatten(1))


class Tokens(nn.Module):
    """A linear layer applied to every row of a picture."""

    def __init__(self):
        super().__init__()
        self.each, self.last = nn.Linear(8, 4), nn.Linear(32, CLASSES)

    def forward(self, x):
        return self.last(self.each(x.flatten(1, 2)).flatten(1))


def frozen():
    model = MLP((16,)).build(SHAPE, CLASSES, seed=0)
    model[1].requires_grad_(False)
    return model


LAYERS = {
    "biased linear": (lambda: MLP((16,)).build(SHAPE, CLASSES, seed=0), "1", "", "sees the record", ["all", "all"]),
    "sigmoid convolutions": (lambda: LeNet().build(SHAPE, CLASSES, seed=0), "", "7", "ReLU in place of Sigmoid", None),
    "relu convolutions": (
        lambda: nn.Sequential(nn.Conv2d(1, 1, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, CLASSES)),
        "", "", "Closed forms end at 0", None,
    ),
    "activations outside of layers": (Functional, "", "", "computes outside of its layers", ["0 %", "all"]),
    "rows of a picture": (Tokens, "", "", "several places of each record", ["0 %", "all"]),
    "a frozen layer": (frozen, "", "", "frozen", ["0 %", "all"]),
}  # fmt: skip


@pytest.mark.parametrize("case", LAYERS)
def test_what_is_said_of_layers_holds_for_the_architecture(case):
    make, entrance, chain, words, told = LAYERS[case]
    with seeded(0):
        model = make()
    found = layers(model, SHAPE, widest=4)
    assert (found.entrance, found.chain) == (entrance, chain)
    *texts, table = found.blocks
    assert words in " ".join([*(block.text for block in texts), *(row[4] for row in table.rows)])
    if told:
        assert [row[3] for row in table.rows] == told
    assert "None of this is a protection" in texts[-1].text
    assert model.training


def test_a_model_without_a_score_is_told_why():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.last = nn.Linear(64, 64), nn.Linear(64, CLASSES)

        def forward(self, x):
            return self.last(self.layer(self.layer(x.flatten(1))))

    (only,) = layers(Twice(), SHAPE, widest=1).blocks
    assert "no layer-by-layer score" in only.text
    assert "called once each" in only.text


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("gradients", ("gradients",)),
        ("gradients, posteriors", ("posteriors", "gradients")),
        (["posteriors"], ("posteriors",)),
    ],
)
def test_releases_are_read(given, expected):
    assert releases(given) == expected


def test_defenses_go_where_they_act():
    noise, coarse = DEFENSES.make("gradient-noise"), DEFENSES.make("top-k")
    assert divided(None, ("posteriors", "gradients")) == (None, ())
    assert divided([noise, coarse], ("posteriors", "gradients")) == ((coarse,), (noise,))
    assert divided([noise], ("posteriors", "gradients")) == (None, (noise,))
    assert divided([], ("posteriors",)) == ((), ())
    with pytest.raises(BadInputError, match="Add gradients to the access"):
        divided([noise], ("posteriors",))


def test_settings_that_would_be_ignored_are_refused():
    require_used({"recipe": None, "ledger": 1}, ("posteriors", "gradients"), by="posteriors")
    require_used({"recipe": None}, ("gradients",), by="posteriors")
    with pytest.raises(BadInputError, match=r"^ledger: used where posteriors are audited, and gradients are"):
        require_used({"recipe": None, "ledger": 1}, ("gradients",), by="posteriors")


def test_a_rebuilt_case_has_the_length_of_its_clients(tmp_path):
    audit = exchange(tmp_path)
    found = rebuilt(audit, pictures(4, seed=2))
    assert isinstance(found, Rebuilt)
    assert len(found) == 4
