"""Settings: any valid configuration is written as JSON and read back equal; any other value is refused in one line."""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import check_message, folder

from rsis_tf.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from rsis_tf.config.checks import Between, OneOf
from rsis_tf.config.grouped import Grouped
from rsis_tf.config.json_file import from_dict, load, to_json, write
from rsis_tf.config.training import HEAD_LOSSES
from rsis_tf.runtime import InputError

Config = TypeVar("Config")
_NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


def _values(hint: Any) -> st.SearchStrategy[Any]:
    """Draws a value of a declared type, as `rsis_tf.config.checks` declares types and ranges."""
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        kind, *rules = members
        strategy = _values(kind)
        for rule in rules:
            if isinstance(rule, OneOf):
                strategy = st.sampled_from(sorted(rule.choices))
            elif isinstance(rule, Between) and kind is int:
                strategy = st.integers(int(rule.low), int(rule.high))
            elif isinstance(rule, Between):
                opened = {"exclude_min": rule.open_low, "exclude_max": rule.open_high}
                strategy = st.floats(rule.low, rule.high, **opened) | st.integers(0, 1).filter(rule.admits)
        return strategy
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*(st.none() if member is type(None) else _values(member) for member in members))
    if origin is tuple:
        if members[-1] is Ellipsis:
            return st.lists(_values(members[0]), max_size=4).map(tuple)
        return st.tuples(*map(_values, members))
    if origin is Mapping:
        return st.dictionaries(st.sampled_from(sorted(HEAD_LOSSES.values())), _values(members[1]), max_size=2)
    if dataclasses.is_dataclass(hint):
        return _configs(hint)  # type: ignore[arg-type]
    return {bool: st.booleans(), str: _NAMES, int: st.integers(), float: st.floats(allow_nan=False)}[hint]


@st.composite
def _configs(draw: st.DrawFn, cls: type[Config]) -> Config:
    """Draws a configuration of which a few fields are set; combinations that do not work together are drawn again."""
    hints = typing.get_type_hints(cls, include_extras=True)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    chosen = draw(st.lists(st.sampled_from(names), unique=True, max_size=6))
    values = {name: draw(_values(hints[name])) for name in chosen}
    try:
        return cls(**values)
    except InputError as error:
        check_message(error)
        assume(False)
        raise


@st.composite
def _runs(draw: st.DrawFn) -> RunConfig:
    head = draw(st.sampled_from([{}, {"mask_head": "voting", "neck_channels": 8, "class_features": "mask"}]))
    try:
        model = dataclasses.replace(draw(_configs(ModelConfig)), **head)
        return RunConfig(model=model, data=draw(_configs(DataConfig)), train=draw(_configs(TrainConfig)))
    except InputError as error:
        check_message(error)
        assume(False)
        raise


@given(_runs())
def test_settings_are_read_back_equal(run: RunConfig) -> None:
    assert from_dict(RunConfig, json.loads(to_json(run))) == run
    with folder() as place:
        write(run, place / "config.json")
        again = load(RunConfig, place / "config.json")
    assert again == run
    assert to_json(again) == to_json(run)
    assert hash(again) == hash(run)
    assert run.changed() == run
    assert run.resolved().resolved() == run.resolved()
    assert (run.data.image_size, run.train.num_steps) == (run.model.image_size, run.model.num_steps)


@pytest.mark.parametrize("cls", [ModelConfig, DataConfig, TrainConfig])
@given(st.data())
def test_parts_are_read_back_equal_and_take_their_fields_by_name(cls: type, data: st.DataObject) -> None:
    config = data.draw(_configs(cls))
    assert from_dict(cls, json.loads(to_json(config))) == config
    if isinstance(config, Grouped):
        assert cls(**config.flat()) == config
        assert config.changed(**config.flat()) == config


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.integers(-(10**400), 10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(_runs(), _JSON, st.data())
def test_any_value_in_a_field_is_accepted_or_refused_in_one_line(
    run: RunConfig, value: Any, data: st.DataObject
) -> None:
    values = json.loads(to_json(run))
    place = values
    while True:
        name = data.draw(st.sampled_from(sorted(place)))
        if not isinstance(place[name], dict) or not place[name] or data.draw(st.booleans()):
            break
        place = place[name]
    if data.draw(st.booleans()):
        place[name] = value
    else:
        place[data.draw(st.text(max_size=5))] = place.pop(name)
    try:
        read = from_dict(RunConfig, values)
    except InputError as error:
        check_message(error)
        return
    assert from_dict(RunConfig, json.loads(to_json(read))) == read
