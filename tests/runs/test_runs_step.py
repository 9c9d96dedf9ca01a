import dataclasses

import pytest
from steps_for_tests import add, number

from divulge.errors import BadInputError
from divulge.runs.step import Step


@dataclasses.dataclass(frozen=True)
class Settings:
    name: str = "n"
    value: int = 3


def test_key_is_the_same_on_every_machine_and_in_every_release():
    one = Step(number, {"name": "one", "value": 1})
    both = Step(add, {"name": "both"}, {"a": one, "b": Step(number, Settings())}, version=2)
    assert (one.key, both.key) == ("9c84df93d343b7ee4aee", "fcce7d392add32529ed0")


@pytest.mark.parametrize(
    "other",
    [
        Step(number, {"name": "one", "value": 2}),
        Step(add, {"name": "one", "value": 1}),
        Step(number, {"name": "one", "value": 1}, version=2),
        Step(number, {"name": "one", "value": 1}, {"a": Step(number, Settings())}),
    ],
    ids=["settings", "function", "version", "inputs"],
)
def test_key_changes_with_what_the_result_depends_on(other):
    assert other.key != Step(number, {"name": "one", "value": 1}).key


def test_key_ignores_context_label_and_cost():
    plain = Step(number, {"value": 1, "name": "one"})
    dressed = Step(number, {"name": "one", "value": 1}, label="first", context={"data_dir": "/data"}, cost=9.0)
    assert dressed.key == plain.key


def test_key_knows_names_and_order_of_inputs():
    one, two = Step(number, {"value": 1}), Step(number, {"value": 2})
    keys = {Step(add, {}, inputs).key for inputs in ({"a": one, "b": two}, {"b": two, "a": one}, {"a": two, "b": one})}
    assert len(keys) == 3


def test_settings_changed_by_the_caller_afterwards_do_not_reach_the_step():
    settings = {"name": "one", "values": [1]}
    step = Step(number, settings)
    settings["values"].append(2)
    assert step.settings == {"name": "one", "values": [1]}


def test_alone_keeps_the_key_and_drops_the_graph():
    step = Step(add, {}, {"a": Step(number, {"value": 1})})
    alone = step.alone()
    assert (alone.key, alone.input_keys, alone.inputs) == (step.key, step.input_keys, {})
    assert step.inputs


class _Method:
    def run(self, settings, inputs, context): ...


def _local():
    def inner(settings, inputs, context): ...

    return inner


@pytest.mark.parametrize("run", [lambda s, i, c: None, _Method().run, _local()], ids=["lambda", "method", "local"])
def test_functions_without_a_lasting_name_are_refused(run):
    with pytest.raises(BadInputError, match="top level of a module"):
        Step(run, {})


def test_settings_without_a_written_form_are_refused():
    with pytest.raises(BadInputError, match="no stable written form"):
        Step(number, {"model": object()})


def test_a_deep_chain_needs_no_deep_stack():
    step = Step(number, {"value": 0})
    for value in range(5000):
        step = Step(add, {"value": value}, {"a": step})
    assert len(step.key) == 20
