"""The instructions of PTX in C++, one function for those of a kind; include/ptx.h has what takes more than a line."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.hostcuda.ptx_operands import (
    BYTES,
    FLOATS,
    TYPES,
    Instruction,
    NotTranslated,
    Scope,
    cpp,
    given,
    members,
    place,
    register,
    value,
)

#: What instructions compute of their operands, which have the instruction's type.
COMPUTED = {
    "add": "{0} + {1}", "sub": "{0} - {1}", "div": "{0} / {1}", "rem": "{0} % {1}",
    "and": "{0} & {1}", "or": "{0} | {1}", "xor": "{0} ^ {1}", "cnot": "{0} == 0",
    "sqrt": "std::sqrt({0})", "rcp": "1 / {0}", "copysign": "std::copysign({1}, {0})",
    "brev": "ptx::reversed_bits({0})", "prmt": "ptx::permuted_bytes({0}, {1}, {2})",
}  # fmt: skip

#: Approximations of float32: the exact result as double, and how far off they may be, in units of the last place.
APPROXIMATED = {
    "ex2": ("std::exp2((double){0})", 2), "lg2": ("std::log2((double){0})", 2), "rcp": ("1 / (double){0}", 1),
    "sqrt": ("std::sqrt((double){0})", 1), "rsqrt": ("1 / std::sqrt((double){0})", 2),
    "div": ("(double){0} / {1}", 2),
}  # fmt: skip

COMPARED = {
    "eq": "{0} == {1}", "ne": "{0} < {1} || {0} > {1}", "lt": "{0} < {1}", "le": "{0} <= {1}", "gt": "{0} > {1}",
    "ge": "{0} >= {1}", "lo": "{0} < {1}", "ls": "{0} <= {1}", "hi": "{0} > {1}", "hs": "{0} >= {1}",
    "equ": "!({0} < {1} || {0} > {1})", "neu": "!({0} == {1})", "ltu": "!({0} >= {1})", "leu": "!({0} > {1})",
    "gtu": "!({0} <= {1})", "geu": "!({0} < {1})", "num": "{0} == {0} && {1} == {1}", "nan": "{0} != {0} || {1} != {1}",
}  # fmt: skip

ATOMIC = {
    "add": "old + {0}", "and": "old & {0}", "or": "old | {0}", "xor": "old ^ {0}", "exch": "{0}",
    "min": "std::min(old, {0})", "max": "std::max(old, {0})", "inc": "old >= {0} ? 0 : old + 1",
    "cas": "old == {0} ? {1} : old",
}  # fmt: skip

ROUNDING = {"n": "NEAREST", "z": "ZERO", "m": "DOWN", "p": "UP"}
SHUFFLES = {"up": "UP", "down": "DOWN", "bfly": "BUTTERFLY", "idx": "INDEX"}

_CALL = re.compile(r"(?:\(([^)]*)\)\s*,\s*)?([\w$]+)\s*(?:,\s*\(([^)]*)\))?")


def computed(i: Instruction, scope: Scope) -> str:
    """One of :data:`COMPUTED`."""
    if "approx" in i.modifiers:
        return approximated(i, scope)
    i.only("sat")
    operands = [value(operand, i.type, scope) for operand in i.operands[1:]]
    type_ = TYPES[i.type]
    result = f"({type_})({COMPUTED[i.name].format(*operands)})"
    return given(i, f"ptx::saturated({result})" if "sat" in i.modifiers else result, scope)


def approximated(i: Instruction, scope: Scope) -> str:
    """What is .approx; with .ftz numbers that are too small for all bits are 0."""
    i.only("approx", "ftz")
    x = [value(operand, i.type, scope) for operand in i.operands[1:]]
    is_flushed = "ftz" in i.modifiers
    x = [f"ptx::flushed({operand})" for operand in x] if is_flushed else x
    if (i.name, i.type) == ("rcp", "f64"):
        result = f"ptx::upper_half(1 / {x[0]})"
    elif i.name in APPROXIMATED and i.type == "f32":
        exact, units = APPROXIMATED[i.name]
        result = f"ptx::approximate<{units}>({exact.format(*x)})"
    else:
        raise NotTranslated(f"{i.text}: this approximation is not known")
    return given(i, f"ptx::flushed({result})" if is_flushed else result, scope)


def multiplied(i: Instruction, scope: Scope) -> str:
    """mul, mad and fma."""
    i.only("lo", "hi", "wide", "sat", "rm")
    kind, type_ = i.type, TYPES[i.type]
    a, b, *rest = (value(operand, kind, scope) for operand in i.operands[1:])
    if kind in FLOATS:
        if "rm" in i.modifiers:
            if i.name != "fma" or kind != "f32" or "sat" in i.modifiers:
                raise NotTranslated(f"{i.text}: .rm is not known")
            return given(i, f"ptx::fma_down({a}, {b}, {rest[0]})", scope)
        result = f"std::fma({a}, {b}, {rest[0]})" if rest else f"({type_})({a} * {b})"
        return given(i, f"ptx::saturated({result})" if "sat" in i.modifiers else result, scope)
    wider = {"32": "64", "16": "32"}.get(kind[1:])
    if "lo" in i.modifiers:
        result, result_kind = f"({type_})({a} * {b})", kind
    elif wider is None:
        raise NotTranslated(f"{i.text}: this product is not known")
    else:
        product = f"({kind[0]}{wider}){a} * ({kind[0]}{wider}){b}"
        is_wide = "wide" in i.modifiers
        result_kind = f"{kind[0]}{wider}" if is_wide else kind
        result = f"({TYPES[result_kind]})(({product}) >> {0 if is_wide else kind[1:]})"
    if rest:
        result = f"({TYPES[result_kind]})({result} + {value(i.operands[3], result_kind, scope)})"
    return given(i, result, scope, result_kind)


def extreme(i: Instruction, scope: Scope) -> str:
    """min and max: of numbers and NaN the number."""
    i.only()
    a, b = (value(operand, i.type, scope) for operand in i.operands[1:])
    function = f"std::f{i.name}" if i.type in FLOATS else f"std::{i.name}<{TYPES[i.type]}>"
    return given(i, f"{function}({a}, {b})", scope)


def of_one(i: Instruction, scope: Scope) -> str:
    """abs, neg and not."""
    i.only()
    a, type_ = value(i.operands[1], i.type, scope), TYPES[i.type]
    how = {"abs": "std::abs({0})", "neg": "-{0}", "not": "!{0}" if i.type == "pred" else "~{0}"}[i.name]
    return given(i, f"({type_})({how.format(a)})", scope)


def counted(i: Instruction, scope: Scope) -> str:
    """popc, clz, and bfind of unsigned numbers: the place of the first one, from the left with .shiftamt."""
    i.only("shiftamt")
    a, size = value(i.operands[1], i.type, scope), 8 * BYTES[i.type]
    zeros = f"__builtin_clzll({a}) - {64 - size}"
    if i.type[0] == "s":
        raise NotTranslated(f"{i.text}: not known of numbers with a sign")
    how = {"popc": f"__builtin_popcountll({a})", "clz": f"{a} ? {zeros} : {size}"}
    how["bfind"] = f"{a} ? {zeros if 'shiftamt' in i.modifiers else f'{size - 1} - ({zeros})'} : -1"
    return given(i, f"(u32)({how[i.name]})", scope, "u32")


def shifted(i: Instruction, scope: Scope) -> str:
    """shl and shr, by any number of bits."""
    i.only()
    way = "left" if i.name == "shl" else "right"
    a, by = value(i.operands[1], i.type, scope), value(i.operands[2], "u32", scope)
    return given(i, f"ptx::shift_{way}<{TYPES[i.type]}>({a}, {by})", scope)


def inserted(i: Instruction, scope: Scope) -> str:
    """bfi."""
    i.only()
    a, b = (value(operand, i.type, scope) for operand in i.operands[1:3])
    first, length = (value(operand, "u32", scope) for operand in i.operands[3:])
    return given(i, f"ptx::insert_bits<{TYPES[i.type]}>({a}, {b}, {first}, {length})", scope)


def compared(i: Instruction, scope: Scope) -> str:
    """setp."""
    i.only(*COMPARED)
    a, b = (value(operand, i.type, scope) for operand in i.operands[1:3])
    if len(i.operands) != 3 or "|" in i.operands[0]:
        raise NotTranslated(f"{i.text}: only one result of a comparison is known")
    how = "{0} != {1}" if i.modifiers[0] == "ne" and i.type not in FLOATS else COMPARED[i.modifiers[0]]
    return given(i, how.format(a, b), scope, "pred")


def selected(i: Instruction, scope: Scope) -> str:
    """selp."""
    i.only()
    a, b = (value(operand, i.type, scope) for operand in i.operands[1:3])
    return given(i, f"{value(i.operands[3], 'pred', scope)} ? {a} : {b}", scope)


def moved(i: Instruction, scope: Scope) -> str:
    """mov: also takes apart, and puts together, what is in several registers."""
    i.only()
    target, source = i.operands
    several = members(target if "{" in target else source)
    if len(several) == 1:
        return given(i, value(source, i.type, scope), scope)
    part = f"b{8 * BYTES[i.type] // len(several)}"
    whole = TYPES[i.type]
    if "{" in target:
        taken = [
            scope.write(name, f"({TYPES[part]})(whole >> {number * 8 * BYTES[part]})", TYPES[part])
            for number, name in enumerate(several)
            if name != "_"
        ]
        return f"{{ const {whole} whole = {value(source, i.type, scope)}; {' '.join(taken)} }}"
    together = " | ".join(
        f"({whole}){value(name, part, scope)} << {number * 8 * BYTES[part]}" for number, name in enumerate(several)
    )
    return given(i, f"({whole})({together})", scope)


def converted(i: Instruction, scope: Scope) -> str:
    """cvt."""
    target, source = i.modifiers[-2:]
    rounding = next((m for m in i.modifiers[:-2] if re.fullmatch(r"r[nzmp]i?", m)), "")
    others = set(i.modifiers[:-2]) - {rounding, "sat"}
    if others == {"rna"} and (target, source) == ("tf32", "f32"):
        return given(i, f"to_tf32({value(i.operands[1], source, scope)})", scope, "b32")
    if others or target not in TYPES or source not in TYPES:
        raise NotTranslated(f"{i.text}: this conversion is not known")
    x, to = value(i.operands[1], source, scope), TYPES[target]
    way = f"ptx::Round::{ROUNDING[rounding[1]]}" if rounding else ""
    if source in FLOATS and target not in FLOATS:
        result = f"ptx::to_integer<{to}>({x}, {way})"
    elif rounding.endswith("i"):
        result = f"({to})ptx::to_whole({x}, {way})"
    elif rounding in ("", "rn"):
        result = f"({to})({x})"
    else:
        raise NotTranslated(f"{i.text}: .{rounding} is not known here")
    if "sat" in i.modifiers:
        if target not in ("f32", "f64"):
            raise NotTranslated(f"{i.text}: .sat is not known here")
        result = f"ptx::saturated({result})"
    return given(i, result, scope, target)


def to_address(i: Instruction, scope: Scope) -> str:
    """cvta: generic addresses are those of global memory."""
    i.only("to", "global", "shared")
    x = value(i.operands[1], i.type, scope)
    if "shared" in i.modifiers:
        if "to" in i.modifiers:
            raise NotTranslated(f"{i.text}: not known")
        x = f"ptx::from_shared({x})"
    return given(i, x, scope)


def where(i: Instruction, scope: Scope, operand: str, access: str) -> tuple[str, int]:
    """A pointer to what a load or a store touches, and how many numbers that are."""
    i.only("global", "shared", "param", "v2", "v4")
    count = next((int(m[1:]) for m in i.modifiers if m in ("v2", "v4")), 1)
    space = next((m for m in i.modifiers if m in ("global", "shared", "param")), "generic")
    return f"ptx::{space}<{TYPES[i.type]}, {count}>({place(operand, scope)}, ptx::{access})", count


def loaded(i: Instruction, scope: Scope) -> str:
    """ld."""
    pointer, count = where(i, scope, i.operands[1], "READ")
    if count == 1:
        return given(i, f"*{pointer}", scope)
    taken = " ".join(scope.write(name, f"from[{n}]", TYPES[i.type]) for n, name in enumerate(members(i.operands[0])))
    return f"{{ const {TYPES[i.type]}* from = {pointer}; {taken} }}"


def stored(i: Instruction, scope: Scope) -> str:
    """st."""
    pointer, _ = where(i, scope, i.operands[0], "WRITE")
    values = (value(operand, i.type, scope) for operand in members(i.operands[1]))
    kept = " ".join(f"to[{n}] = {x};" for n, x in enumerate(values))
    return f"{{ {TYPES[i.type]}* to = {pointer}; {kept} }}"


def atomic(i: Instruction, scope: Scope) -> str:
    """atom and red."""
    i.only("global", "shared", *ATOMIC)
    way = next(m for m in i.modifiers if m in ATOMIC)
    space = next((m for m in i.modifiers if m in ("global", "shared")), "generic")
    address, *rest = i.operands[1:] if i.name == "atom" else i.operands
    type_ = TYPES[i.type]
    new = ATOMIC[way].format(*(value(operand, i.type, scope) for operand in rest))
    change = f"[&]({type_} old) -> {type_} {{ return {new}; }}"
    old = f"ptx::atomic(ptx::{space}<{type_}>({place(address, scope)}, ptx::ATOMIC), {change})"
    return given(i, old, scope) if i.name == "atom" else f"{old};"


def copied(i: Instruction, scope: Scope) -> str:
    """cp.async and its groups."""
    if i.modifiers == ("async", "commit_group"):
        return "ptx::commit_copies();"
    if i.modifiers == ("async", "wait_group"):
        return f"ptx::wait_copies({i.operands[0]});"
    i.only("async", "shared", "global")
    target, source, size, *filled = i.operands
    operands = [place(target, scope), place(source, scope), *(value(x, "u32", scope) for x in filled)]
    return f"ptx::copy_async<{size}>({', '.join(operands)});"


def at_barrier(i: Instruction, scope: Scope) -> str:
    """bar.sync for a block, bar.warp.sync for lanes, bar.red for a vote of the block."""
    if "warp" in i.modifiers:
        return f"ptx::warp_barrier({value(i.operands[0], 'u32', scope)});"
    if i.modifiers[0] == "sync" and i.operands == ("0",):
        return "ptx::barrier(0);"
    if i.modifiers[0] == "red" and i.operands[1] == "0":
        vote = {"popc": "ptx::barrier", "and": "ptx::barrier_and", "or": "0 < ptx::barrier"}[i.modifiers[1]]
        return given(i, f"{vote}({value(i.operands[2], 'pred', scope)})", scope)
    raise NotTranslated(f"{i.text}: this barrier is not known")


def shuffled(i: Instruction, scope: Scope) -> str:
    """shfl.sync."""
    i.only(*SHUFFLES)
    target, _, in_range = i.operands[0].partition("|")
    operands = ", ".join(value(operand, "u32", scope) for operand in i.operands[1:])
    way = SHUFFLES[next(m for m in i.modifiers if m in SHUFFLES)]
    told = f" {register(in_range.strip())} = is_in_range;" if in_range else ""
    result = scope.write(target.strip(), f"ptx::shuffle(ptx::Shuffle::{way}, {operands}, is_in_range)", "u32")
    return f"{{ bool is_in_range; {result}{told} }}"


def voted(i: Instruction, scope: Scope) -> str:
    """vote.sync."""
    i.only("ballot", "any", "all")
    way = next(m for m in i.modifiers if m in ("ballot", "any", "all"))
    predicate, mask = value(i.operands[1], "pred", scope), value(i.operands[2], "u32", scope)
    return given(i, f"__{way}_sync({mask}, {predicate})", scope)


def reduced(i: Instruction, scope: Scope) -> str:
    """redux.sync."""
    i.only("add", "min", "max", "and", "or", "xor")
    way = ATOMIC[i.modifiers[1]].replace("{0}", "other")
    x, mask = value(i.operands[1], i.type, scope), value(i.operands[2], "u32", scope)
    combine = f"[]({TYPES[i.type]} old, {TYPES[i.type]} other) {{ return {way}; }}"
    return given(i, f"hostcuda::reduce({mask}, {x}, {combine})", scope)


def multiplied_on_tensor_cores(i: Instruction, scope: Scope) -> str:
    """mma.sync. With half of the depth the other half of the fragments is 0."""
    functions = {
        ("m16n8k16", "f16"): "mma_f16",
        ("m16n8k8", "f16"): "mma_f16",
        ("m16n8k16", "bf16"): "mma_bf16",
        ("m16n8k8", "tf32"): "mma_tf32",
    }
    found = re.fullmatch(r"sync\.aligned\.(m\d+n\d+k\d+)\.row\.col\.f32\.(\w+)\.\2\.f32", ".".join(i.modifiers))
    if found is None or found.groups() not in functions:
        raise NotTranslated(f"{i.text}: this product is not known")
    out, a, b, c = (members(operand) for operand in i.operands)
    lists = [
        ", ".join(value(name, kind, scope) for name in names)
        for kind, names in (("f32", c), ("u32", a), ("u32", b))
    ]
    kept = " ".join(scope.write(name, f"c[{number}]", "f32") for number, name in enumerate(out))
    arrays = "float c[4] = {{{}}}; u32 a[4] = {{{}}}, b[2] = {{{}}};".format(*lists)
    return f"{{ {arrays} {functions[found[1], found[2]]}(c, a, b); {kept} }}"


def matrices_loaded(i: Instruction, scope: Scope) -> str:
    """ldmatrix of four matrices."""
    rest = [m for m in i.modifiers if m != "trans"]
    if rest != ["sync", "aligned", "m8n8", "x4", "shared", "b16"]:
        raise NotTranslated(f"{i.text}: only four matrices are known")
    out = members(i.operands[0])
    kept = " ".join(scope.write(name, f"out[{number}]", "u32") for number, name in enumerate(out))
    row = f"ptx::shared<u32, 4>({place(i.operands[1], scope)}, ptx::READ)"
    return f"{{ u32 out[4]; load_matrices(out, {row}, {str('trans' in i.modifiers).lower()}); {kept} }}"


def called(i: Instruction, scope: Scope) -> str:
    """A call; what it takes and gives lies in memory of its own."""
    found = _CALL.fullmatch(", ".join(i.operands))
    if found is None:
        raise NotTranslated(f"{i.text}: this call is not known")
    rooms = [name.strip() for group in (found[1], found[3]) if group for name in group.split(",")]
    return f"{cpp(found[2])}({', '.join(rooms)});"


def jumped(i: Instruction, scope: Scope) -> str:
    """bra."""
    return f"goto {cpp(i.operands[0])};"


def ended(i: Instruction, scope: Scope) -> str:
    """ret."""
    return "return;"


def trapped(i: Instruction, scope: Scope) -> str:
    """trap."""
    return 'ptx::runtime->fail("a trap");'


def nothing(i: Instruction, scope: Scope) -> str:
    """Fences: blocks run one after the other here."""
    return ""


MADE: dict[str, Callable[[Instruction, Scope], str]] = {
    **dict.fromkeys((*COMPUTED, *APPROXIMATED), computed),
    **dict.fromkeys(("mul", "mad", "fma"), multiplied),
    **dict.fromkeys(("min", "max"), extreme),
    **dict.fromkeys(("abs", "neg", "not"), of_one),
    **dict.fromkeys(("popc", "clz", "bfind"), counted),
    **dict.fromkeys(("shl", "shr"), shifted),
    **dict.fromkeys(("atom", "red"), atomic),
    **dict.fromkeys(("bar", "barrier"), at_barrier),
    **dict.fromkeys(("membar", "fence"), nothing),
    "bfi": inserted,
    "setp": compared,
    "selp": selected,
    "mov": moved,
    "cvt": converted,
    "cvta": to_address,
    "ld": loaded,
    "st": stored,
    "cp": copied,
    "shfl": shuffled,
    "vote": voted,
    "redux": reduced,
    "mma": multiplied_on_tensor_cores,
    "ldmatrix": matrices_loaded,
    "call": called,
    "bra": jumped,
    "ret": ended,
    "trap": trapped,
}
