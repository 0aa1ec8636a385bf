"""A tuning mode applied: adapters attached, rules decided, the trainable set fixed and counted."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from r2g.config.schema import FrozenMode, ParamRule, TuningPlan


class PlanError(ValueError):
    """A tuning mode that doesn't fit the model, or a checkpoint that doesn't fit the mode."""


@dataclass(frozen=True)
class ParamGroup:
    """Parameters that share a learning rate; `lr_scale` multiplies the run's."""

    lr_scale: float
    names: tuple[str, ...]


@dataclass(frozen=True)
class PartCount:
    """How many parameters a part has, and how many of them learn."""

    part: str
    trainable: int
    total: int


def names_of_role(module: nn.Module, globs: Iterable[str]) -> list[str]:
    """The modules that play a role, in the model's order. Raises PlanError when none does."""
    globs = tuple(globs)
    names = [n for n, _ in module.named_modules() if any(fnmatchcase(n, g) and _level(n, g) for g in globs)]
    if not names:
        raise PlanError(f"no module is named like {', '.join(globs)}")
    return names


def _level(name: str, glob: str) -> bool:
    """A final `.*` means children, not grandchildren: blocks.* is the list of blocks."""
    return not glob.endswith(".*") or name.count(".") == glob.count(".") or "*" in glob[:-1]


def assign(
    names: Iterable[str], rules: Iterable[ParamRule], roles: Mapping[tuple[str, str], list[str]]
) -> dict[str, ParamRule]:
    """Give every parameter the first rule that matches it.

    `roles` maps (part, role) to full module names. Raises PlanError for a parameter that no rule covers and for a
    rule that decides nothing.
    """
    rules = tuple(rules)
    chosen: dict[str, ParamRule] = {}
    uncovered = []
    for name in names:
        rule = next((r for r in rules if _covers(r, name, roles)), None)
        if rule is None:
            uncovered.append(name)
        else:
            chosen[name] = rule
    if uncovered:
        raise PlanError(f"no rule covers {len(uncovered)} parameter(s), first: {uncovered[0]}")
    used = {id(rule) for rule in chosen.values()}
    idle = [_title(rule) for rule in rules if id(rule) not in used]
    if idle:
        raise PlanError(f"rule(s) that decide nothing: {', '.join(idle)}")
    return chosen


def _covers(rule: ParamRule, name: str, roles: Mapping[tuple[str, str], list[str]]) -> bool:
    if not fnmatchcase(name, rule.match):
        return False
    if rule.role is None:
        return True
    modules = roles[(name.split(".", 1)[0], rule.role)]
    modules = modules[-rule.last :] if rule.last else modules
    return any(name.startswith(module + ".") for module in modules)


def _title(rule: ParamRule) -> str:
    extra = f" (role {rule.role}{f', last {rule.last}' if rule.last else ''})" if rule.role else ""
    return f"'{rule.match}'{extra}"


def attach(model: nn.Module, plan: TuningPlan, roles: Mapping[str, Mapping[str, tuple[str, ...]]]) -> None:
    """Add the plan's adapters to `model.encoder` and `model.llm`; `roles` are those of the parts' settings."""
    for label, adapter in plan.adapters.items():
        part = adapter.part.value
        module = getattr(model, part)
        role = getattr(adapter, "targets", None)
        targets = [] if role is None else names_of_role(module, roles[part][role])
        adapter.attach(label, module, targets)


def decide(
    model: nn.Module, plan: TuningPlan, roles: Mapping[str, Mapping[str, tuple[str, ...]]]
) -> tuple[ParamGroup, ...]:
    """Set requires_grad by the rules and return the optimizer's groups, largest learning rate first."""
    wanted = {(r.match.split(".", 1)[0], r.role) for r in plan.rules if r.role is not None}
    where = {}
    for part, role in wanted:
        if role not in roles.get(part, {}):
            raise PlanError(
                f"a rule names role '{role}', which {part} hasn't (it has: {', '.join(roles[part])})"
            )
        where[(part, role)] = [f"{part}.{n}" for n in names_of_role(getattr(model, part), roles[part][role])]
    parameters = dict(model.named_parameters())
    chosen = assign(parameters, plan.rules, where)
    scales: dict[float, list[str]] = {}
    for name, rule in chosen.items():
        learns = rule.train and parameters[name].is_floating_point()
        if rule.train and not learns:
            raise PlanError(f"{name} is quantized and can't learn; give it `train: false` or llm.load=16bit")
        parameters[name].requires_grad_(learns)
        if learns:
            scales.setdefault(rule.lr_scale, []).append(name)
    if not scales:
        raise PlanError("the rules train nothing")
    return tuple(ParamGroup(scale, tuple(names)) for scale, names in sorted(scales.items(), reverse=True))


def count(model: nn.Module) -> tuple[PartCount, ...]:
    """Trainable and total parameters per part, quantized weights counted unpacked."""
    parts: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        size = _numel(parameter)
        entry = parts.setdefault(name.split(".", 1)[0], [0, 0])
        entry[0] += size if parameter.requires_grad else 0
        entry[1] += size
    return tuple(PartCount(part, *entry) for part, entry in parts.items())


def _numel(parameter: Any) -> int:
    state = getattr(parameter, "quant_state", None)  # bitsandbytes packs two 4-bit weights into a byte
    return parameter.numel() if state is None else state.shape.numel()


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name."""
    return {n: p for n, p in model.named_parameters() if p.requires_grad}


def require_same(names: Iterable[str], saved: Iterable[str], where: str) -> None:
    """Raise PlanError, naming the differences, unless both sets of parameters are equal."""
    here, there = set(names), set(saved)
    if here != there:
        more, less = sorted(here - there), sorted(there - here)
        raise PlanError(
            f"{where} holds another trainable set: {len(less)} unknown here (first: {less[:1]}), "
            f"{len(more)} missing there (first: {more[:1]})"
        )


def set_modes(model: nn.Module, mode: FrozenMode) -> None:
    """Put the model in train mode, and every wholly frozen part to rest unless the mode asks for dropout there."""
    nn.Module.train(model, True)
    if mode is FrozenMode.eval:
        for part in model.children():
            if not any(p.requires_grad for p in part.parameters()):
                part.eval()


def cast_frozen(model: nn.Module, dtype: torch.dtype) -> None:
    """Hold frozen matrices in the compute dtype, so that autocast doesn't cast them anew at every step.

    Vectors (norms, biases) stay as they are: they cost nothing, and norms compute in fp32.
    """
    for parameter in model.parameters():
        if not parameter.requires_grad and parameter.ndim >= 2 and parameter.dtype == torch.float32:
            parameter.data = parameter.data.to(dtype)
