"""Settings from outside: a key that no table knows is refused by name, however deep it stands."""

import dataclasses

import pytest

from divulge.errors import BadInputError
from divulge.settings import build
from divulge.studies import open_study


@dataclasses.dataclass(frozen=True)
class Part:
    rate: float = 0.5
    patience: int | None = 3


@dataclasses.dataclass(frozen=True)
class Whole:
    one: Part = Part()
    maybe: Part | None = None
    several: tuple[Part, ...] = ()
    named: dict[str, Part] = dataclasses.field(default_factory=dict)
    pair: tuple[int, Part] = (0, Part())
    free: dict[str, float] = dataclasses.field(default_factory=dict)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"one": {"rat": 1}}, "setting 'one'"),
        ({"maybe": {"rat": 1}}, "setting 'maybe'"),
        ({"several": [{"rate": 1}, {"rat": 1}]}, "setting 'several'"),
        ({"named": {"x": {"rat": 1}}}, "setting 'named', setting 'x'"),
        ({"pair": [1, {"rat": 1}]}, "setting 'pair'"),
    ],
)
def test_an_unknown_key_is_refused_at_any_depth(values, place):
    with pytest.raises(BadInputError, match=rf"^here: Whole, {place} has no setting 'rat'; the nearest is 'rate'"):
        build(Whole, values, where="here")


def test_known_keys_and_the_word_none_are_taken_at_any_depth():
    found = build(
        Whole,
        {
            "one": {"patience": "none"},
            "maybe": "none",
            "several": [{"rate": 1}],
            "named": {"x": {"patience": "none"}},
            "pair": [2, {"rate": 0}],
            "free": {"whatever": 1},
        },
    )
    assert found == Whole(
        Part(patience=None), None, (Part(1.0),), {"x": Part(patience=None)}, (2, Part(0.0)), {"whatever": 1.0}
    )


@pytest.mark.parametrize(("kind", "table"), [("gradients", "tables"), ("labels", "cases"), ("membership", "cases")])
def test_a_misspelled_key_of_a_studys_table_is_refused(kind, table, tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(f'kind = "{kind}"\n[[{table}]]\nnonsense = 1\n[scale.quick]\n')
    with pytest.raises(BadInputError, match=f"setting '{table}' has no setting 'nonsense'"):
        open_study(str(path), scale="quick")
