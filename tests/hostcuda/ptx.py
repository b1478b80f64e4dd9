"""C++ of PTX: what NVIDIA's nvcc really makes of a kernel file, to be run by the stand-in GPU.

g++ may read a kernel's source otherwise than nvcc does: it takes arguments in another order, say. So where nvcc is, its
output is run, instruction by instruction. What is then left to a GPU is what ptxas makes of it, and time. Known are the
instructions that the kernels have come to so far (ptx_instructions.py); another one ends the compilation with its name.
Where an instruction is only approximate (.approx), its result is as far off here as it may be on a GPU.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.hostcuda.ptx_instructions import MADE
from tests.hostcuda.ptx_operands import BYTES, Instruction, NotTranslated, Scope, cpp, register, separate

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_FUNCTION = re.compile(
    r"(?:\.(?:visible|weak|extern)\s+)*\.(?P<kind>entry|func)\s+(?:\((?P<returned>[^)]*)\)\s*)?(?P<name>[\w$]+)\s*"
    r"\((?P<parameters>[^)]*)\)(?P<directives>[^{;]*)(?P<end>[{;])"
)
_SHARED = re.compile(r"\.shared\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d*)\])?\s*;")
_PARAMETER = re.compile(r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d+)\])?")
_STATEMENT = re.compile(r"\s*(?:(?P<brace>[{}])|(?P<label>[$\w]+):(?!:)|(?P<text>[^;]+);)")
_INSTRUCTION = re.compile(r"(?:@(?P<unless>!?)%(?P<condition>\w+)\s+)?(?P<name>[\w.:]+)\s*(?P<operands>.*)", re.DOTALL)
_THREADS = re.compile(r"\.maxntid\s+(\d+)(?:\s*,\s*(\d+))?(?:\s*,\s*(\d+))?")


@dataclass(frozen=True)
class Variable:
    """Memory with a name: a parameter, or a shared variable (of 0 bytes: what the launch asks for)."""

    name: str
    alignment: int
    size: int


@dataclass(frozen=True)
class Function:
    """A kernel (``entry``), or what kernels call."""

    name: str
    is_entry: bool
    parameters: list[Variable]
    returned: list[Variable]
    threads: int | None
    body: str | None


@dataclass(frozen=True)
class Kernel:
    """What the driver has to know of a kernel; ``threads`` are the most of a block, where it says so."""

    name: str
    argument_bytes: int
    threads: int | None


def translate(text: str) -> tuple[str, list[Kernel]]:
    """C++ with a function for each one of PTX, and the kernels among them."""
    text = _COMMENT.sub("", text)
    found = list(functions(text))
    variables = memory(_SHARED, text)
    shared = shared_addresses(variables)
    parts = [shared_memory(variables), *(f"{signature(function)};" for function in found)]
    parts += [definition(function, Scope(shared)) for function in found if function.body is not None]
    kernels = [Kernel(f.name, offsets(f.parameters)[1], f.threads) for f in found if f.is_entry]
    return "\n".join(parts), kernels


#: Bytes from the shared address of one variable of a module to that of the next.
APART = 1 << 16


def shared_memory(variables: list[Variable]) -> str:
    """The module's own shared variables, and where a shared address lies."""
    own = [variable for variable in variables if variable.size]
    lines = [f"alignas({v.alignment}) static thread_local unsigned char {v.name}[{v.size}];" for v in own]
    lines += ["unsigned char* ptx::host_address(u64 address, size_t bytes) {"]
    lines += ["    if (address >= DYNAMIC) return hostcuda::block.dynamic_shared + (address - DYNAMIC);"]
    lines += [f"    const u64 place = address % {APART};", f"    switch (address / {APART}) {{"]
    for number, v in enumerate(own):
        lines.append(f"        case {number}: if (place + bytes <= {v.size}) return {v.name} + place; break;")
    return "\n".join([*lines, "    }", '    runtime->fail("an index outside a shared or local array");', "    return 0;", "}"])


def shared_addresses(variables: list[Variable]) -> dict[str, str]:
    """Those of the module's variables, and of what the launch asks for, as C++."""
    own = [variable.name for variable in variables if variable.size]
    found = {name: f"{number * APART}u" for number, name in enumerate(own)}
    return found | {variable.name: "ptx::DYNAMIC" for variable in variables if not variable.size}


def functions(text: str) -> Iterator[Function]:
    """All that PTX without comments defines or declares."""
    for found in _FUNCTION.finditer(text):
        body = None
        if found["end"] == "{":
            body = text[found.end() : closing(text, found.end())]
        limit = _THREADS.search(found["directives"])
        threads = int(limit[1]) * int(limit[2] or 1) * int(limit[3] or 1) if limit else None
        yield Function(
            cpp(found["name"]), found["kind"] == "entry", memory(_PARAMETER, found["parameters"]),
            memory(_PARAMETER, found["returned"] or ""), threads, body,
        )  # fmt: skip


def closing(text: str, start: int) -> int:
    """Where the brace closes that was opened before ``start``."""
    depth = 1
    for found in re.compile(r"[{}]").finditer(text, start):
        depth += 1 if found[0] == "{" else -1
        if depth == 0:
            return found.start()
    raise NotTranslated("a brace that is not closed")


def memory(pattern: re.Pattern[str], text: str) -> list[Variable]:
    """The variables that a text declares."""
    found = []
    for alignment, kind, name, count in (match.groups() for match in pattern.finditer(text)):
        length = 1 if count is None else int(count or 0)  # [] is what the launch asks for
        found.append(Variable(cpp(name), int(alignment or BYTES[kind]), BYTES[kind] * length))
    return found


def offsets(variables: list[Variable]) -> tuple[dict[str, int], int]:
    """Where each lies if they follow each other, aligned; and where the last one ends."""
    places, end = {}, 0
    for variable in variables:
        places[variable.name] = -(-end // variable.alignment) * variable.alignment
        end = places[variable.name] + variable.size
    return places, end


def signature(function: Function) -> str:
    """The function's head."""
    if function.is_entry:
        return f"static void {function.name}(const unsigned char* arguments)"
    taken = [f"unsigned char* {variable.name}" for variable in (*function.returned, *function.parameters)]
    return f"static void {function.name}({', '.join(taken)})"


def definition(function: Function, scope: Scope) -> str:
    """The function in C++."""
    assert function.body is not None
    places = offsets(function.parameters)[0].items() if function.is_entry else ()
    lines = [f"const unsigned char* const {name} = arguments + {place};" for name, place in places]
    end = 0
    while (found := _STATEMENT.match(function.body, end)) is not None:
        end = found.end()
        if found["brace"]:
            lines.append(found["brace"])
        elif found["label"]:
            lines.append(f"{cpp(found['label'])}:;")
        else:
            lines.append(statement(" ".join(found["text"].split()), scope))
    if function.body[end:].strip():
        raise NotTranslated(f"what is this? {function.body[end:].strip()[:80]}")
    return "\n".join([f"{signature(function)} {{", *filter(None, lines), "}"])


def statement(text: str, scope: Scope) -> str:
    """A declaration or an instruction in C++."""
    if text.startswith(".reg"):
        return scope.declare(text)
    if text.startswith(".param"):
        [room] = memory(_PARAMETER, text)
        return f"alignas({max(room.alignment, 8)}) unsigned char {room.name}[{room.size}];"
    if text.startswith((".shared", ".pragma", ".loc")):
        return ""
    found = _INSTRUCTION.fullmatch(text)
    if found is None:
        raise NotTranslated(f"what is this? {text}")
    name, *modifiers = re.split(r"\.|::", found["name"])
    instruction = Instruction(name, tuple(modifiers), tuple(separate(found["operands"])), text)
    make = MADE.get(name)
    if make is None:
        raise NotTranslated(f"{text}: the instruction {name} is not known")
    code = make(instruction, scope)
    if not found["condition"]:
        return code
    return f"if ({found['unless']}{register(found['condition'])}) {{ {code} }}"
