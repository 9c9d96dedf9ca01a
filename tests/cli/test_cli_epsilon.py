"""`divulge epsilon`: the numbers it prints, the noise it finds, and what it refuses."""

import re

import pytest

from divulge.privacy.accounting import epsilon, noise_multiplier
from divulge.privacy.ledger import Ledger, Phase
from divulge.privacy.words import in_words

RUN = ("--sampling-rate", 0.004, "--noise", 1.1, "--steps", 14400)


def flat(text):
    return " ".join(text.split())


def test_a_run_in_numbers_and_words(cli):
    status, out, err = cli("epsilon", *RUN, "--prior", 0.25)
    assert status == 0, err
    out = flat(out)
    phase = [Phase(0.004, 1.1, 14400)]
    for accountant in ("pld", "rdp", "rdp-2017"):
        assert f"{accountant} {epsilon(phase, delta=1e-5, accountant=accountant).epsilon:.2f}" in out
    assert out.startswith("epsilon 2.24 at delta 10⁻⁵ 14,400 steps, noise multiplier 1.1, Poisson sampling of 0.4 %")
    assert re.search(r"1 outsider in 100 accused [\d.]+ % 1 %", out)
    assert re.search(r"among 256 candidates [\d.]+ % 0.4 %", out)
    assert re.search(r"among 4 candidates [\d.]+ % 25 %", out)
    assert out.endswith(in_words(phase))


def test_the_quoted_accountant_can_be_chosen(cli):
    assert flat(cli("epsilon", *RUN, "--accountant", "rdp-2017")[1]).startswith("epsilon 2.85")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("--batch-size", 600, "--records", 60000, "--steps", 900), ("--sampling-rate", 0.01, "--steps", 900)),
        (("--sampling-rate", 0.01, "--epochs", 9), ("--sampling-rate", 0.01, "--steps", 900)),
    ],
)
def test_two_ways_to_say_the_same(cli, one, other):
    status, out, err = cli("epsilon", *one, "--noise", 1.1)
    assert status == 0, err
    assert out == cli("epsilon", *other, "--noise", 1.1)[1]


def test_noise_for_a_target(cli):
    status, out, err = cli("epsilon", "--batch-size", 4096, "--records", 60000, "--epsilon", 3, "--steps", 586)
    assert status == 0, err
    printed = float(re.search(r"noise multiplier ([\d.]+)", out).group(1))
    least = noise_multiplier(epsilon=3, delta=1e-5, sampling_rate=4096 / 60000, steps=586)
    assert least <= printed <= least * 1.001
    assert flat(out).startswith("epsilon 3 at delta")


def test_shuffled_passes_count_in_full(cli):
    told = ("--batch-size", 4, "--records", 10, "--noise", 2, "--epochs", 5, "--delta", 1e-3, "--sampling", "shuffled")
    status, out, err = cli("epsilon", *told)
    assert status == 0, err
    assert f"gaussian {epsilon([Phase(1, 2.0, 5)], delta=1e-3).epsilon:.2f}" in flat(out)
    assert "15 steps" in out
    assert "every epoch counts as a full look at every record" in flat(out)


def test_a_ledger_with_its_warnings(cli, tmp_path):
    path = tmp_path / "ledger.json"
    Ledger(60_000, (Phase(0.01, 2.0, 1000), Phase(0.02, 1.5, 10)), fixed_noise_seed=True).save(path)
    status, out, err = cli("epsilon", "--ledger", path)
    assert status == 0, err
    assert "1,000 steps" in out
    assert "10 steps" in out
    assert "protects nobody" in flat(out)


def test_an_order_on_the_edge_of_the_grid_is_said(cli):
    assert "rdp: the best order is an end of the grid" in flat(
        cli("epsilon", "--sampling-rate", 1, "--noise", 0.001, "--steps", 100)[1]
    )


def test_noise_next_to_none_is_answered_and_stops_nobody(cli):
    status, out, err = cli("epsilon", "--sampling-rate", 0.1, "--noise", 1e-6, "--steps", 10)
    assert status == 0, err
    assert "stops nobody" in flat(out)


def test_gradients_that_were_dropped_are_told(cli, tmp_path):
    path = tmp_path / "ledger.json"
    Ledger(60_000, (Phase(0.01, 2.0, 1000),), dropped=7).save(path)
    assert "7 per-example gradients were not finite and counted as zero" in flat(cli("epsilon", "--ledger", path)[1])


def test_replace_one_is_told_by_pld_alone(cli, tmp_path):
    path = tmp_path / "ledger.json"
    Ledger(60_000, (Phase(0.01, 2.0, 1000),), adjacency="replace-one").save(path)
    status, out, err = cli("epsilon", "--ledger", path)
    assert status == 0, err
    assert "rdp" not in out
    assert "cannot account for replace-one" in cli("epsilon", "--ledger", path, "--accountant", "rdp")[2]


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ((), "either --sampling-rate or --batch-size, got neither"),
        (("--batch-size", 10, *RUN), "either --sampling-rate or --batch-size, got both"),
        ((*RUN, "--epsilon", 3), "either --noise or --epsilon, got both"),
        ((*RUN, "--epochs", 3), "either --steps or --epochs, got both"),
        (("--batch-size", 10, *RUN[2:]), "--batch-size needs --records"),
        (("--sampling-rate", 1.5, *RUN[2:]), "sampling rate: expected the share.*got 1.5"),
        (("--batch-size", 20, "--records", 10, *RUN[2:]), "sampling rate: expected the share.*got 2.0"),
        ((*RUN[:2], "--noise", 0, *RUN[4:]), "noise multiplier: expected a number above 0"),
        ((*RUN[:2], "--noise", -1, *RUN[4:]), "noise multiplier: expected a number above 0"),
        ((*RUN[:4], "--steps", -1), "steps: expected a whole number"),
        ((*RUN, "--delta", 0), "delta: expected a number above 0"),
        ((*RUN, "--delta", 1e-3, "--records", 1000), "delta: expected less than 1/1,000"),
        ((*RUN, "--prior", 1), "prior: expected a chance"),
        ((*RUN[:2], *RUN[4:], "--epsilon", 0), "epsilon: expected a finite target above 0"),
        ((*RUN[:2], *RUN[4:], "--epsilon", 1e-4, "--accountant", "rdp"), "cannot be reached"),
        (("--ledger", "nowhere.json"), "nowhere.json: expected a privacy ledger"),
        (("--ledger", "nowhere.json", "--noise", 2), "leave out --noise"),
        (("--ledger", "nowhere.json", "--sampling", "shuffled"), "leave out --sampling"),
        ((*RUN[:4], "--epochs", -5), "--epochs: expected 0 or more, got -5"),
        (("--sampling-rate", 1e-320, "--noise", 1, "--epochs", 1), "sampling rate: expected the share"),
        ((*RUN[:2], *RUN[4:], "--epsilon", 1e12), "even a noise multiplier of 0.001 spends less"),
    ],
)
def test_bad_input(cli, told, message):
    status, out, err = cli("epsilon", *told)
    assert status == 2
    assert re.search(message, err)
    assert err.startswith("divulge: ")
    assert err.count("\n") == 1
    assert not out


def test_an_edited_ledger_is_refused(cli, tmp_path):
    path = tmp_path / "ledger.json"
    Ledger(60_000, (Phase(0.01, 2.0, 1000),)).save(path)
    path.write_text(path.read_text().replace("1000", "10"))
    status, out, err = cli("epsilon", "--ledger", path)
    assert (status, out) == (2, "")
    assert "digest does not match" in err
