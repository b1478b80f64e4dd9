"""PTX on the stand-in GPU: what its instructions do, at their edges, and that NVIDIA's assembler takes what is tested."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests import hostcuda
from tests.backends import ON_REAL_GPU, backend, why_no_gpu
from tests.hostcuda import ptx

why_not = why_no_gpu() or ("a real GPU runs no translated PTX" if ON_REAL_GPU else "")

NAN, INF = float("nan"), float("inf")


def bits(x: float) -> int:
    """Of a float32."""
    return struct.unpack("<I", struct.pack("<f", x))[0]


def half(x: float) -> int:
    """The bits of the nearest half."""
    return int(np.float16(x).view(np.uint16))


def f32(name: str, *numbers: float) -> tuple[str, tuple[int, ...], int]:
    """An instruction of float32 with its operands and its result."""
    *operands, result = map(bits, numbers)
    taken = ", ".join(f"%f{n}" for n in range(1, len(operands) + 1))
    moved = " ".join(f"mov.b32 %f{n}, %r{n};" for n in range(1, len(operands) + 1))
    return f"{moved} {name} %f9, {taken}; mov.b32 %r9, %f9;", tuple(operands), result


# Instructions that leave their result in %r9, what %r1, %r2, ... hold before, and what is to come of it.
CASES = [
    ("add.s32 %r9, %r1, %r2;", (0x7FFFFFFF, 1), 0x80000000),
    ("sub.s32 %r9, %r1, -5;", (3,), 8),
    ("mul.lo.s32 %r9, %r1, %r2;", (0x10001, 0x10001), 0x20001),
    ("mul.hi.s32 %r9, %r1, %r2;", (-2, 3), -1),
    ("mul.hi.u32 %r9, %r1, %r2;", (0xFFFFFFFF, 0xFFFFFFFF), 0xFFFFFFFE),
    ("mad.lo.s32 %r9, %r1, %r2, %r3;", (-3, 5, 1), -14),
    ("mul.wide.s32 %rd9, %r1, %r2; shr.u64 %rd9, %rd9, 32; cvt.u32.u64 %r9, %rd9;", (-1, 5), -1),
    ("mul.wide.u32 %rd9, %r1, %r2; shr.u64 %rd9, %rd9, 32; cvt.u32.u64 %r9, %rd9;", (-1, 5), 4),
    ("mad.wide.s32 %rd9, %r1, %r2, 7; cvt.u32.u64 %r9, %rd9;", (-1, 5), 2),
    ("div.s32 %r9, %r1, %r2;", (-7, 2), -3),
    ("rem.s32 %r9, %r1, %r2;", (-7, 2), -1),
    ("div.u32 %r9, %r1, %r2;", (-1, 2), 0x7FFFFFFF),
    ("shl.b32 %r9, %r1, %r2;", (1, 31), 0x80000000),
    ("shl.b32 %r9, %r1, %r2;", (1, 32), 0),
    ("shr.u32 %r9, %r1, %r2;", (0x80000000, 31), 1),
    ("shr.u32 %r9, %r1, %r2;", (0x80000000, 32), 0),
    ("shr.s32 %r9, %r1, %r2;", (0x80000000, 40), -1),
    ("bfi.b32 %r9, %r1, %r2, %r3, %r4;", (0xFFFF, 0x12345678, 8, 4), 0x12345F78),
    ("bfi.b32 %r9, %r1, %r2, %r3, %r4;", (0xAB, 0x12345678, 0, 32), 0xAB),
    ("bfind.u32 %r9, %r1;", (0x00100000,), 20),
    ("bfind.shiftamt.u32 %r9, %r1;", (0x00100000,), 11),
    ("bfind.shiftamt.u32 %r9, %r1;", (0,), -1),
    ("brev.b32 %r9, %r1;", (0x00000003,), 0xC0000000),
    ("popc.b32 %r9, %r1;", (0xF0F00001,), 9),
    ("clz.b32 %r9, %r1;", (0x00100000,), 11),
    ("clz.b32 %r9, %r1;", (0,), 32),
    ("prmt.b32 %r9, %r1, %r2, 0x5410;", (0x11223344, 0x55667788), 0x77883344),
    ("prmt.b32 %r9, %r1, %r2, 0x000B;", (0x91223344, 0), 0x444444FF),
    ("min.s32 %r9, %r1, %r2;", (-1, 1), -1),
    ("min.u32 %r9, %r1, %r2;", (-1, 1), 1),
    ("not.b32 %r9, %r1;", (5,), 0xFFFFFFFA),
    ("neg.s32 %r9, %r1;", (5,), -5),
    ("mov.b32 {%rs1, %rs2}, %r1; mov.b32 %r9, {%rs2, %rs1};", (0x12345678,), 0x56781234),
    ("cvt.s64.s32 %rd9, %r1; shr.u64 %rd9, %rd9, 32; cvt.u32.u64 %r9, %rd9;", (-7,), -1),
    ("cvt.u16.u32 %rs1, %r1; cvt.s32.s16 %r9, %rs1;", (0xFFFE,), -2),
    ("setp.lt.s32 %p1, %r1, %r2; selp.b32 %r9, 11, 22, %p1;", (-1, 1), 11),
    ("setp.lt.u32 %p1, %r1, %r2; selp.b32 %r9, 11, 22, %p1;", (-1, 1), 22),
    ("setp.ne.s32 %p1, %r1, 4; @%p1 bra $past; mov.u32 %r9, 5; $past:", (4,), 5),
    ("setp.ne.s32 %p1, %r1, 4; @!%p1 mov.u32 %r9, 6;", (4,), 6),
    f32("add.f32", 1, 2**-25, 1),
    f32("fma.rn.f32", 1 + 2**-12, 1 + 2**-12, -1, 2**-11 + 2**-24),
    f32("fma.rm.f32", 1 + 2**-12, 1 + 2**-12, 0, 1 + 2**-11),
    f32("fma.rm.f32", -1, 2**-60, 1, 1 - 2**-24),
    f32("fma.rm.f32", 1, 2**-60, 1, 1),
    f32("fma.rm.f32", 3, 5, 7, 22),
    f32("min.f32", NAN, 3, 3),
    f32("max.f32", 3, NAN, 3),
    f32("abs.f32", -2.5, 2.5),
    f32("copysign.f32", -1, 3, -3),
    f32("ex2.approx.ftz.f32", -3, 0.125),
    f32("ex2.approx.ftz.f32", 0.1, float(np.exp2(np.float64(np.float32(0.1))).astype(np.float32)) + 2**-22),
    f32("ex2.approx.f32", -149, 2**-149),
    f32("ex2.approx.ftz.f32", -149.9, 0),
    f32("ex2.approx.ftz.f32", 200, INF),
    f32("rcp.approx.ftz.f32", 2**-149, INF),
    f32("rcp.rn.f32", 3, float(np.float32(1) / np.float32(3))),
    f32("sqrt.rn.f32", 2, float(np.sqrt(np.float32(2)))),
    f32("cvt.sat.f32.f32", 1.5, 1),
    f32("cvt.sat.f32.f32", NAN, 0),
    f32("cvt.rmi.f32.f32", -1.5, -2),
    f32("cvt.rni.f32.f32", 2.5, 2),
    ("mov.b32 %f1, %r1; cvt.rni.s32.f32 %r9, %f1;", (bits(-2.5),), -2),
    ("mov.b32 %f1, %r1; cvt.rzi.s32.f32 %r9, %f1;", (bits(-2.9),), -2),
    ("mov.b32 %f1, %r1; cvt.rzi.s32.f32 %r9, %f1;", (bits(3e9),), 0x7FFFFFFF),
    ("mov.b32 %f1, %r1; cvt.rzi.s32.f32 %r9, %f1;", (bits(-INF),), 0x80000000),
    ("mov.b32 %f1, %r1; cvt.rzi.s32.f32 %r9, %f1;", (bits(NAN),), 0),
    ("mov.b32 %f1, %r1; cvt.rzi.u32.f32 %r9, %f1;", (bits(-3),), 0),
    ("cvt.rn.f32.s32 %f1, %r1; mov.b32 %r9, %f1;", (0x7FFFFFFF,), bits(2**31)),
    ("mov.b32 %f1, %r1; cvt.rn.f16.f32 %rs1, %f1; cvt.u32.u16 %r9, %rs1;", (bits(1 / 3),), half(1 / 3)),
    ("cvt.u16.u32 %rs1, %r1; cvt.f32.f16 %f1, %rs1; mov.b32 %r9, %f1;", (half(1 / 3),), bits(np.float16(1 / 3))),
    ("mov.b32 %f1, %r1; cvt.rn.bf16.f32 %rs1, %f1; cvt.u32.u16 %r9, %rs1;", (0x3F808000,), 0x3F80),
    ("mov.b32 %f1, %r1; cvt.rn.bf16.f32 %rs1, %f1; cvt.u32.u16 %r9, %rs1;", (0x3F818000,), 0x3F82),
    ("mov.b32 %f1, %r1; cvt.rna.tf32.f32 %r9, %f1;", (0x3F801000,), 0x3F802000),
    ("mov.b32 %f1, %r1; setp.lt.f32 %p1, %f1, 0f00000000; selp.b32 %r9, 1, 0, %p1;", (bits(NAN),), 0),
    ("mov.b32 %f1, %r1; setp.geu.f32 %p1, %f1, 0f00000000; selp.b32 %r9, 1, 0, %p1;", (bits(NAN),), 1),
    ("mov.b32 %f1, %r1; setp.ne.f32 %p1, %f1, %f1; selp.b32 %r9, 1, 0, %p1;", (bits(NAN),), 0),
    ("mov.b32 %f1, %r1; setp.neu.f32 %p1, %f1, %f1; selp.b32 %r9, 1, 0, %p1;", (bits(NAN),), 1),
    ("mov.b32 %f1, %r1; setp.nan.f32 %p1, %f1, %f1; selp.b32 %r9, 1, 0, %p1;", (bits(NAN),), 1),
    # Of 32 lanes this is number 5, whose value is 5; lanes without a partner keep their own.
    ("shfl.sync.bfly.b32 %r9|%p1, %lane, 1, 31, -1;", (), 4),
    ("shfl.sync.down.b32 %r9|%p1, %lane, 4, 31, -1;", (), 9),
    ("shfl.sync.down.b32 %r9|%p1, %lane, 4, 0x1807, -1;", (), 5),
    ("shfl.sync.down.b32 %r9|%p1, %lane, 2, 0x1807, -1;", (), 7),
    ("shfl.sync.up.b32 %r9|%p1, %lane, 5, 0, -1;", (), 0),
    ("shfl.sync.up.b32 %r9|%p1, %lane, 6, 0, -1;", (), 5),
    ("shfl.sync.idx.b32 %r9|%p1, %lane, 2, 0x1C1F, -1;", (), 6),
    ("shfl.sync.up.b32 %r8|%p1, %lane, 6, 0, -1; selp.b32 %r9, 1, 0, %p1;", (), 0),
    ("setp.lt.u32 %p1, %lane, 3; vote.sync.ballot.b32 %r9, %p1, -1;", (), 7),
    ("setp.lt.u32 %p1, %lane, 3; vote.sync.any.pred %p2, %p1, -1; selp.b32 %r9, 1, 0, %p2;", (), 1),
    ("setp.lt.u32 %p1, %lane, 3; vote.sync.all.pred %p2, %p1, -1; selp.b32 %r9, 1, 0, %p2;", (), 0),
    ("redux.sync.add.u32 %r9, %lane, -1;", (), 496),
    ("redux.sync.max.s32 %r9, %lane, -1;", (), 31),
    ("setp.lt.u32 %p1, %lane, 3; bar.red.popc.u32 %r9, 0, %p1;", (), 3),
    ("setp.eq.u32 %p1, %lane, 31; @%p1 st.shared.u32 [room+4], %lane; bar.sync 0; ld.shared.u32 %r9, [room+4];", (), 31),
    ("setp.eq.u32 %p1, %lane, 0; @%p1 st.shared.u32 [room], 0; bar.sync 0; atom.shared.add.u32 %r8, [room], 2; bar.sync 0; ld.shared.u32 %r9, [room];",
     (), 64),
]  # fmt: skip

# Each lane writes its number into room, and reads that of the lane beside it.
WRITE, READ = "st.shared.u32 [%own], %lane;", "ld.shared.u32 %r9, [%beside];"
COPY = "cp.async.cg.shared.global [%sixteen], [%rd1], 16; cp.async.commit_group;"
IN_ORDER = {
    "a barrier": f"{WRITE} bar.sync 0; {READ}",
    "a barrier of the warp": f"{WRITE} bar.warp.sync -1; {READ}",
    "one who writes once more": f"{WRITE} bar.sync 0; {READ} bar.sync 0; {WRITE}",
    # To what is not a number, of which all bits are 1: it is -1 before.
    "additions": "atom.shared.add.u32 %r8, [room], 1; bar.sync 0; ld.shared.u32 %r9, [room];",
    "a copy": f"{COPY} cp.async.wait_group 0; bar.sync 0; ld.shared.u32 %r9, [room+16];",
}
RACES = {
    "no barrier": (f"{WRITE} {READ}", "written|read"),
    "a shuffle": (f"{WRITE} shfl.sync.idx.b32 %r8|%p1, %lane, 0, 31, -1; {READ}", "written|read"),
    "no barrier before it is written again": (f"{WRITE} bar.sync 0; {READ} {WRITE}", "written|read"),
    "all write": ("st.shared.u32 [room], %lane;", "written"),
    "an addition and a store": ("atom.shared.add.u32 %r8, [room], 1; st.shared.u32 [room], 0;", "written"),
    "an addition that is read": ("atom.shared.add.u32 %r8, [room], 1; ld.shared.u32 %r9, [room];", "written|read"),
    "a copy that is waited for behind the barrier": (
        f"{COPY} bar.sync 0; ld.shared.u32 %r9, [room+16]; cp.async.wait_group 0;", "several threads have read"
    ),
    "a copy to what is being read": (f"ld.shared.u32 %r9, [room+16]; {COPY}", "read"),
}  # fmt: skip

HEAD = ".version 8.0\n.target sm_80\n.address_size 64\n.shared .align 16 .b8 room[512];\n"


def kernel(name: str, code: str, operands: int = 0) -> str:
    """One that loads its operands, does the instructions, and stores the result of lane 5."""
    loads = "\n".join(f"ld.global.u32 %r{n + 1}, [%rd1+{4 * n}];" for n in range(operands))
    return f"""
.visible .entry {name}(.param .u64 {name}_x, .param .u64 {name}_out)
{{
    .reg .pred %p<3>;
    .reg .b16 %rs<3>;
    .reg .b32 %r<10>;
    .reg .b32 %lane;
    .reg .b32 %own;
    .reg .b32 %beside;
    .reg .b32 %sixteen;
    .reg .f32 %f<10>;
    .reg .b64 %rd<10>;
    .reg .pred %is_not_it;
    ld.param.u64 %rd1, [{name}_x];
    ld.param.u64 %rd2, [{name}_out];
    mov.u32 %lane, %tid.x;
    mov.u32 %r9, room;
    mad.lo.u32 %own, %lane, 4, %r9;
    xor.b32 %beside, %own, 4;
    mad.lo.u32 %sixteen, %lane, 16, %r9;
    mov.u32 %r9, 0;
    {loads}
    {code.replace("$past", f"$past_{name}")}
    setp.ne.s32 %is_not_it, %lane, 5;
    @%is_not_it bra $end_{name};
    st.global.u32 [%rd2], %r9;
$end_{name}:
    ret;
}}
"""


def named(words: str) -> str:
    return words.replace(" ", "_")


TEXT = "".join(
    [
        HEAD,
        *(kernel(f"case{number}", code, len(operands)) for number, (code, operands, _) in enumerate(CASES)),
        *(kernel(named(name), code) for name, code in IN_ORDER.items()),
        *(kernel(named(name), code) for name, (code, _) in RACES.items()),
    ]
)


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    import pycuda.driver as driver

    from darkpy.backends.cuda.compiler import compile_file

    backend("cuda")  # a context
    path = tmp_path_factory.mktemp("ptx") / "cases.ptx"
    path.write_text(TEXT)
    return driver.module_from_buffer(compile_file(path, "sm_80"))


@pytest.fixture
def run(module):
    """Launch a kernel of one warp with these operands; what lane 5 found."""
    device = backend("cuda")._device

    def call(name, operands=()):
        words = np.array([*(x & 0xFFFFFFFF for x in operands), 0, 0, 0, 0], np.uint32).view(np.int32)
        x, out = device.asarray(words), device.zeros((1,), np.int32)
        function = module.get_function(name)
        function.prepare("PP")
        function.prepared_async_call((1, 1), (32, 1, 1), device.stream, x.address, out.address)
        return int(device.to_host(out)[0]) & 0xFFFFFFFF

    return call


class TestOnTheStandIn:
    pytestmark = [pytest.mark.cuda, pytest.mark.skipif(why_not != "", reason=why_not)]

    @pytest.mark.parametrize("number", range(len(CASES)), ids=[re.sub(r"[%;]", "", code) for code, _, _ in CASES])
    def test_instructions(self, run, number):
        _, operands, expected = CASES[number]
        assert hex(run(f"case{number}", operands)) == hex(expected & 0xFFFFFFFF)

    @pytest.mark.parametrize("name, found", list(zip(IN_ORDER, [4, 4, 4, 31, 0], strict=True)))
    @pytest.mark.parametrize("order", ["0", "1", "5"])
    def test_what_barriers_order_is_no_race(self, run, monkeypatch, name, found, order):
        monkeypatch.setenv("HOSTCUDA_ORDER", order)
        assert run(named(name)) == found

    @pytest.mark.parametrize("name", RACES)
    @pytest.mark.parametrize("order", ["0", "1", "5"])
    def test_races(self, run, monkeypatch, capfd, name, order):
        import pycuda.driver as driver

        monkeypatch.setenv("HOSTCUDA_ORDER", order)
        with pytest.raises(driver.Error, match="illegal memory access"):
            run(named(name))
        assert re.search(rf"a race in shared memory: .*({RACES[name][1]})", capfd.readouterr().err)


def test_nvidias_assembler_takes_what_is_tested(tmp_path: Path) -> None:
    nvcc = hostcuda.real_nvcc()
    ptxas = nvcc.with_name("ptxas") if nvcc else None
    if ptxas is None or not shutil.which(str(ptxas)):
        pytest.skip("ptxas of the CUDA toolkit is not here")
    (tmp_path / "cases.ptx").write_text(TEXT)
    command = [str(ptxas), "-arch", "sm_80", str(tmp_path / "cases.ptx"), "-o", str(tmp_path / "cases.cubin")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "code, message",
    [
        ("wgmma.fence.sync.aligned;", "the instruction wgmma is not known"),
        ("add.rz.f32 %f1, %f2, %f3;", r"add.rz.f32 %f1, %f2, %f3: .rz is not known"),
        ("cvt.rz.f16.f32 %rs1, %f1;", ".rz is not known here"),
        ("mov.u32 %r1, nobody;", "the operand nobody is not known"),
        ("mov.u32 %x1, 0;", "the register x1 is not declared"),
        ("bar.sync 1, 64;", "this barrier is not known"),
    ],
)
def test_what_is_not_known_is_named(code: str, message: str) -> None:
    with pytest.raises(ptx.NotTranslated, match=message):
        ptx.translate(HEAD + kernel("unknown", code))
