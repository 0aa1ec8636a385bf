"""Tuning rules: the first match wins, nothing is uncovered or idle, and sets are compared by name."""

import pytest
import torch
from torch import nn

from r2g.config.schema import FrozenMode, ParamRule, TuningPlan
from r2g.tuning import (
    PartCount,
    PlanError,
    assign,
    cast_frozen,
    count,
    decide,
    names_of_role,
    require_same,
    set_modes,
    trainable,
)

NAMES = [f"encoder.blocks.{i}.{kind}" for i in range(3) for kind in ("weight", "bias")] + ["llm.head"]
BLOCKS = {("encoder", "blocks"): [f"encoder.blocks.{i}" for i in range(3)]}


def _learn(rules: list[ParamRule], names: list[str] = NAMES) -> set[str]:
    return {name for name, rule in assign(names, rules, BLOCKS).items() if rule.train}


def test_the_first_match_wins() -> None:
    rules = [ParamRule("*bias", True), ParamRule("encoder.*", False), ParamRule("*", True)]
    assert _learn(rules) == {*(n for n in NAMES if n.endswith("bias")), "llm.head"}


def test_uncovered_parameters_are_an_error() -> None:
    with pytest.raises(PlanError, match=r"covers 1 parameter\(s\), first: llm.head"):
        _learn([ParamRule("encoder.*", True)])


def test_rules_that_decide_nothing_are_an_error() -> None:
    typo, hidden = ParamRule("encodr.*", True), ParamRule("llm.head", False)
    with pytest.raises(PlanError, match=r"'encodr\.\*', 'llm\.head'"):
        _learn([typo, ParamRule("*", True), hidden])


def test_globs_match_case_and_whole_names() -> None:
    with pytest.raises(PlanError, match="decide nothing"):
        _learn([ParamRule("Encoder.*", True), ParamRule("*", False)])
    with pytest.raises(PlanError, match="decide nothing"):
        _learn([ParamRule("bias", True), ParamRule("*", False)])


@pytest.mark.parametrize(("last", "blocks"), [(None, "012"), (1, "2"), (2, "12"), (9, "012")])
def test_a_role_takes_its_last_modules(last: int | None, blocks: str) -> None:
    rules = [ParamRule("encoder.*", True, role="blocks", last=last), ParamRule("*", False)]
    assert _learn(rules) == {f"encoder.blocks.{i}.{kind}" for i in blocks for kind in ("weight", "bias")}


def test_a_role_covers_its_modules_only_not_names_that_begin_alike() -> None:
    names = ["encoder.blocks.1.weight", "encoder.blocks.10.weight", "encoder.blocks.1x.weight"]
    rules = [ParamRule("encoder.*", True, role="blocks"), ParamRule("*", False)]
    found = assign(names, rules, {("encoder", "blocks"): ["encoder.blocks.1"]})
    assert [name for name, rule in found.items() if rule.train] == names[:1]


def _model() -> nn.Module:
    part = nn.ModuleDict(
        {"blocks": nn.ModuleList(nn.Sequential(nn.Linear(2, 2), nn.Dropout()) for _ in range(2))}
    )
    return nn.ModuleDict({"encoder": part, "projector": nn.Linear(2, 3), "llm": nn.Linear(3, 3)})


def _plan(*rules: ParamRule) -> TuningPlan:
    return TuningPlan({}, rules, FrozenMode.eval)


def test_decide_sets_what_learns_and_groups_by_rate() -> None:
    model = _model()
    plan = _plan(
        ParamRule("encoder.*", True, lr_scale=0.1, role="blocks", last=1),
        ParamRule("projector.*", True),
        ParamRule("*", False),
    )
    groups = decide(model, plan, {"encoder": {"blocks": ("blocks.*",)}})
    assert [(g.lr_scale, g.names) for g in groups] == [
        (1.0, ("projector.weight", "projector.bias")),
        (0.1, ("encoder.blocks.1.0.weight", "encoder.blocks.1.0.bias")),
    ]
    assert set(trainable(model)) == {name for group in groups for name in group.names}
    assert count(model) == (
        PartCount("encoder", 6, 12),
        PartCount("projector", 9, 9),
        PartCount("llm", 0, 12),
    )


def test_decide_refuses_an_unknown_role_and_a_plan_that_trains_nothing() -> None:
    with pytest.raises(PlanError, match="role 'norms', which encoder hasn't"):
        decide(_model(), _plan(ParamRule("encoder.*", True, role="norms")), {"encoder": {"blocks": ("x",)}})
    with pytest.raises(PlanError, match="train nothing"):
        decide(_model(), _plan(ParamRule("*", False)), {})


def test_a_role_that_nothing_plays_is_an_error() -> None:
    with pytest.raises(PlanError, match="no module is named like layers"):
        names_of_role(_model().encoder, ("layers.*",))
    assert names_of_role(_model().encoder, ("blocks.*",)) == ["blocks.0", "blocks.1"]


@pytest.mark.parametrize("mode", FrozenMode)
def test_wholly_frozen_parts_rest_unless_the_mode_says_otherwise(mode: FrozenMode) -> None:
    model = _model()
    decide(model, _plan(ParamRule("projector.*", True), ParamRule("*", False)), {})
    set_modes(model.eval(), mode)
    assert model.projector.training
    assert model.encoder.training == model.llm.training == (mode is FrozenMode.train)
    assert model.encoder.blocks[0][1].training == (mode is FrozenMode.train)


def test_frozen_matrices_are_cast_and_nothing_else() -> None:
    model = _model()
    decide(model, _plan(ParamRule("projector.*", True), ParamRule("*", False)), {})
    cast_frozen(model, torch.bfloat16)
    dtypes = {name: parameter.dtype for name, parameter in model.named_parameters()}
    cast = {name for name, dtype in dtypes.items() if dtype == torch.bfloat16}
    assert cast == {"encoder.blocks.0.0.weight", "encoder.blocks.1.0.weight", "llm.weight"}


def test_sets_that_differ_are_refused_by_name() -> None:
    require_same(["a", "b"], ["b", "a"], "here")
    with pytest.raises(PlanError, match="here.*") as caught:
        require_same(["a", "b"], ["b", "c"], "here")
    assert "a" in str(caught.value)
    assert "c" in str(caught.value)
