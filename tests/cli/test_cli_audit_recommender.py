import json

import pytest

FACTORY = """
from divulge.models.multvae import MultVAE

def build():
    return MultVAE(hidden=12, code=4).build((30,), 30, seed=0)
"""


@pytest.fixture
def pairs(tmp_path):
    (tmp_path / "my.py").write_text(FACTORY)
    pairs = [(user, item) for user in range(25) for item in range(30) if (7 * user + 3 * item * item) % 11 < 3]
    lines = [f"u{user},{item},4.5" for user, item in pairs]
    (tmp_path / "pairs.csv").write_text("user,item,rating\n" + "\n".join(lines) + "\n")
    return tmp_path


def audited(cli, folder, *extra, file="pairs.csv"):
    return cli(
        *("audit", "--members", folder / file, "--model", f"{folder / 'my.py'}:build", "--budget", "quick"),
        *("--out", folder / "report", *extra),
    )


def test_a_recommender_is_audited_from_a_file_of_pairs(cli, pairs):
    status, told, error = audited(cli, pairs, "--access", "gradients", "--defenses", "fake-items, secure-sum")
    assert status == 0, error
    assert "Sharing updates of my as 20 of its 23 users would" in error
    assert "exact" in told
    facts = json.loads((pairs / "report" / "report.json").read_text())
    assert facts["verdict"]["band"] == 4
    assert {"report.html", "records.csv"} <= {file.name for file in (pairs / "report").iterdir()}
    assert "secure-sum" in facts["settings"]["defenses tried"]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ((), "audited by the updates that users share"),
        (("--access", "gradients", "--mode", "training"), "--mode: not used in the audit of a recommender"),
        (("--access", "gradients", "--attributes", "sex"), "--attributes: not used in the audit of a recommender"),
        (("--access", "gradients", "--delta", "0.1"), "--delta: not used in the audit of a recommender"),
        (("--access", "gradients", "--defenses", "fake-itens"), "the nearest is 'fake-items'"),
    ],
)
def test_what_does_not_belong_to_a_recommender_is_refused(cli, pairs, extra, message):
    status, _, error = audited(cli, pairs, *extra)
    assert status != 0
    assert message in " ".join(error.split())


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("user,item\na,3\na,3\n", "more than once"),
        ("user,item\na,3\nb,30\n", "numbered from 3 to 30"),
        ("user,item\na,tea\nb,rum\n", "not numbered but named"),
        ("user,item\na,3\n,4\n", "1 missing values"),
    ],
)
def test_pairs_that_make_no_baskets_are_refused(cli, pairs, lines, message):
    (pairs / "bad.csv").write_text(lines)
    status, _, error = audited(cli, pairs, "--access", "gradients", file="bad.csv")
    assert status != 0
    assert message in " ".join(error.split())
