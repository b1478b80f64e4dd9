"""What instructions of PTX speak of, as C++: types, registers, numbers, addresses. See ptx.py."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: PTX's types in C++; what has only bits is taken for unsigned.
TYPES = {f"{kind}{size}": f"{kind}{size}" for kind in "su" for size in (8, 16, 32, 64)}
TYPES |= {f"b{size}": f"u{size}" for size in (8, 16, 32, 64)} | {"pred": "bool"}
TYPES |= {name: name for name in ("f16", "bf16", "f32", "f64")}
BYTES = {name: 1 if name == "pred" else int(re.sub(r"\D", "", name)) // 8 for name in TYPES}
FLOATS = ("f16", "bf16", "f32", "f64")

#: Modifiers that change nothing here.
WITHOUT_EFFECT = {"rn", "uni", "sync", "aligned", "volatile", "relaxed", "gpu", "cta", "nc", "ca"}
WITHOUT_EFFECT |= {"cg", "cs", "lu", "cv", "L1", "L2", "no_allocate", "evict_first", "evict_last", "acquire", "release"}

SPECIAL = {"%laneid": "hostcuda::current->lane", "%warpid": "hostcuda::current->linear / 32"}
for _axis in "xyz":
    SPECIAL[f"%tid.{_axis}"] = f"hostcuda::current->thread.{_axis}"
    SPECIAL[f"%ntid.{_axis}"] = f"hostcuda::block.block_size.{_axis}"
    SPECIAL[f"%ctaid.{_axis}"] = f"hostcuda::block.block.{_axis}"
    SPECIAL[f"%nctaid.{_axis}"] = f"hostcuda::block.grid_size.{_axis}"

_ADDRESS = re.compile(r"\[\s*(%?[\w$]+)\s*(?:\+\s*(-?\d+))?\s*\]")
_REGISTERS = re.compile(r"\.reg\s+\.(\w+)\s+%?(\w+)(?:<(\d+)>)?")


class NotTranslated(Exception):
    """PTX with something in it that is not known here."""


class Scope:
    """What names mean in a function: addresses of shared variables as C++, and the C++ types of registers."""

    def __init__(self, shared: dict[str, str]) -> None:
        self.shared = shared
        self._registers: dict[str, str] = {}

    def declare(self, text: str) -> str:
        """Registers: of ``.reg .f32 %f<3>`` f0, f1, f2."""
        found = _REGISTERS.fullmatch(text)
        if found is None:
            raise NotTranslated(text)
        kind, name, count = found.groups()
        self._registers[name] = TYPES[kind]
        names = [f"{name}{number}" for number in range(int(count))] if count else [name]
        return f"{TYPES[kind]} {', '.join(map(register, names))};"

    def type_of(self, name: str) -> str:
        """A register's type."""
        name = name.lstrip("%")
        found = self._registers.get(name) or self._registers.get(name.rstrip("0123456789"))
        if found is None:
            raise NotTranslated(f"the register {name} is not declared")
        return found

    def read(self, name: str, type_: str) -> str:
        """What a register holds, as this type."""
        held = self.type_of(name)
        if held == type_:
            return register(name)
        return f"({type_}){register(name)}" if _are_integers(held, type_) else f"ptx::as<{type_}>({register(name)})"

    def write(self, name: str, code: str, type_: str) -> str:
        """A register takes a value of this type."""
        held = self.type_of(name)
        if held == type_ or _are_integers(held, type_):
            return f"{register(name)} = {code};"
        return f"ptx::set<{held}, {type_}>({register(name)}, {code});"


def _are_integers(*types: str) -> bool:
    return all(type_[0] in "su" for type_ in types)


@dataclass(frozen=True)
class Instruction:
    """``name.modifiers operands``; the last modifier is its type, where it has one."""

    name: str
    modifiers: tuple[str, ...]
    operands: tuple[str, ...]
    text: str

    @property
    def type(self) -> str:
        """As PTX has it: ``s32``."""
        return self.modifiers[-1]

    def only(self, *known: str) -> None:
        """Raise NotTranslated if there is a modifier besides types, these and those without effect."""
        unknown = [m for m in self.modifiers if m not in known and m not in TYPES and m not in WITHOUT_EFFECT]
        if unknown:
            raise NotTranslated(f"{self.text}: .{unknown[0]} is not known")


def cpp(name: str) -> str:
    """A name of PTX as one of C++."""
    return name.replace("$", "_D_")


def register(name: str) -> str:
    """A register's name in C++, where f32 is a type."""
    return f"{name.lstrip('%')}_"


def separate(operands: str) -> list[str]:
    """At the commas that stand in no brackets."""
    parts, depth = [""], 0
    for character in operands:
        depth += (character in "{[(") - (character in "}])")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def value(operand: str, kind: str, scope: Scope) -> str:
    """What an operand of a type of PTX is."""
    type_ = TYPES[kind]
    if operand in SPECIAL:
        return f"({type_})({SPECIAL[operand]})"
    if operand.startswith("%"):
        return scope.read(operand, type_)
    if operand[:2] in ("0f", "0d"):
        return f"ptx::as<{type_}>((u{32 if operand[1] == 'f' else 64})0x{operand[2:]})"
    if re.fullmatch(r"-?\d+|0x[0-9a-fA-F]+", operand):
        return f"({type_}){operand}"
    if cpp(operand) in scope.shared:
        return f"({type_}){scope.shared[cpp(operand)]}"
    raise NotTranslated(f"the operand {operand} is not known")


def place(operand: str, scope: Scope) -> str:
    """What stands in brackets: an address."""
    found = _ADDRESS.fullmatch(operand)
    if found is None:
        raise NotTranslated(f"the address {operand} is not known")
    base = register(found[1]) if found[1].startswith("%") else cpp(found[1])
    return f"{scope.shared.get(base, base)} + {found[2] or 0}"


def members(operand: str) -> list[str]:
    """``{a, b}`` or ``a``."""
    return separate(operand.strip("{}"))


def given(i: Instruction, code: str, scope: Scope, kind: str = "") -> str:
    """The first operand takes what an instruction computes, of its own type if no other is named."""
    return scope.write(i.operands[0], code, TYPES[kind or i.type])
