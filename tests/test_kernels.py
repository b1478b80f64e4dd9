"""The kernels as source: NVIDIA's compiler takes them all, and they agree with the Python beside them."""

from __future__ import annotations

import re
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from darkpy import resources
from darkpy.backends.base import CHANNEL_ACTIVATIONS, ELEMENTWISE_ACTIVATIONS
from darkpy.backends.base_heads import YoloPoint
from darkpy.backends.base_yolo import BoxMeasure
from darkpy.backends.cuda import compiler
from darkpy.backends.cuda.compiler import KernelError, Signature
from darkpy.backends.cuda.detections import Kind
from tests import hostcuda

FILES = sorted(resources.folder("kernels").glob("*.cu"))
ARCHITECTURES = ("75", "80", "90a")
NVCC = hostcuda.real_nvcc()


def compilations() -> list[tuple[str, str]]:
    """Every kernel file, and every type that ``element`` can be in it."""
    found = []
    for path in FILES:
        takes_elements = any(signature.elements for signature in compiler.signatures(path.read_text()).values())
        found += [(path.stem, element) for element in compiler.ELEMENTS if takes_elements or element == "float32"]
    return found


@pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")
@pytest.mark.parametrize("file, element", compilations())
def test_nvcc_compiles(file, element):
    """For every architecture at once; what was compiled before is known by its hash."""
    assert NVCC is not None
    path = resources.folder("kernels") / f"{file}.cu"
    version = subprocess.run([NVCC, "--version"], capture_output=True, text=True, check=True).stdout
    # With 16 bits the oldest, which does in steps what the newer have instructions for, and one of these.
    architectures = ARCHITECTURES if element == "float32" else ("75", "90a")
    options = (*compiler.OPTIONS, *compiler.ELEMENTS[element])
    parts = [version, *architectures, *options, *compiler.sources(path).values()]
    done = hostcuda.KEPT / "compiled" / f"{path.stem}-{sha256(chr(0).join(parts).encode()).hexdigest()[:16]}"
    if done.exists():
        return
    targets = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in architectures]
    command = [str(NVCC), "-fatbin", "--threads=2", *targets, *options, "-o", "/dev/null", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")
    done.parent.mkdir(parents=True, exist_ok=True)
    done.touch()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_begins_with_what_it_computes_and_what_that_costs(path):
    head = re.match(r"(//[^\n]*\n)+", path.read_text())
    assert head is not None
    assert re.search(r"bytes|flops|reads", head[0])
    assert "measured" in head[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_kernel_has_a_signature(path):
    """Python calls kernels by what stands in their source; one that it does not recognise could not be called."""
    assert len(compiler.signatures(path.read_text())) == path.read_text().count("__global__") > 0


def setters(text: str) -> set[str]:
    """Functions with an argument that they change, by reference."""
    functions = re.findall(r"(\w+)\(([^(){};]*)\)\s*(?:const\s*)?\{", text)
    changed = re.compile(r"(?:^|,)\s*(?!const\b)[^,]*&|\*\s*&")
    return {name for name, arguments in functions if changed.search(arguments)}


BESIDE = re.compile(r"\b(\w+),(?:[^;(){}]|\([^()]*\))*?\b(\w+)\((?:[^()]*[,\s])?\1\)")


def test_no_argument_stands_beside_a_call_that_sets_it():
    """g++ takes the arguments of a call from the last to the first, nvcc from the first to the last."""
    text = "\n".join(path.read_text() for path in sorted(FILES[0].parent.glob("*.cu*")))
    text = re.sub(r"//[^\n]*", " ", text)
    assert {"find", "add", "add_one"} <= setters(text)
    assert BESIDE.search("bring(to, from, find(at[i], tap, from) && exists, x);")
    assert [found[0] for found in BESIDE.finditer(text) if found[2] in setters(text)] == []


def names(path: str, enum: str) -> list[str]:
    """The names of an enumeration in a kernel file, in their order."""
    text = (resources.folder("kernels") / path).read_text()
    found = re.search(rf"enum {enum} {{(.*?)}}", text, re.DOTALL)
    assert found is not None
    return re.findall(r"\w+", found[1])


def test_kinds_of_heads_and_points_of_boxes_have_the_numbers_that_python_gives_them():
    assert names("found.cuh", "Kind") == [kind.name for kind in Kind]
    assert names("gaussian_yolo.cuh", "Point") == [point.name for point in YoloPoint]


def test_measures_of_boxes_have_the_numbers_that_python_gives_them():
    assert names("boxes.cuh", "Measure") == [measure.name for measure in BoxMeasure]


def test_activations_have_the_numbers_that_python_gives_them():
    assert names("activations.cuh", "Activation") == [name.upper() for name in ELEMENTWISE_ACTIVATIONS]
    shortened = {"NORMALIZE": "", "SOFTMAX": "_softmax", "SOFTMAX_MAXVAL": "_softmax_maxval"}
    found = names("activations.cu", "ChannelActivation")
    assert [f"normalize_channels{shortened[name]}" for name in found] == list(CHANNEL_ACTIVATIONS)


# Compiling -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder for kernels, a cache of its own, and a compiler that writes down what it is asked."""
    monkeypatch.setenv("DARKPY_CACHE", str(tmp_path / "cache"))
    return tmp_path


def fake_nvcc(folder: Path, body: str, version: str = "12.4") -> str:
    path = folder / "nvcc"
    path.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo "release {version}, V{version}"; exit 0; fi\n{body}\n')
    path.chmod(0o755)
    compiler.compiler_version.cache_clear()
    return str(path)


COUNTS = 'echo x >> "$(dirname "$0")/calls"; while [ "$1" != -o ]; do shift; done; echo code > "$2"'


def calls(folder: Path) -> int:
    return len((folder / "calls").read_text())  // 2


def test_what_was_compiled_is_kept(folder):
    nvcc = fake_nvcc(folder, COUNTS)
    source, header = folder / "x.cu", folder / "x.cuh"
    source.write_text('#include "x.cuh"\n')
    header.write_text("// 1\n")
    assert compiler.compile_file(source, "sm_80", nvcc) == b"code\n"
    compiler.compile_file(source, "sm_80", nvcc)
    assert calls(folder) == 1
    compiler.compile_file(source, "sm_90a", nvcc)
    assert calls(folder) == 2
    compiler.compile_file(source, "sm_80", nvcc, "float16")
    assert calls(folder) == 3
    header.write_text("// 2\n")
    compiler.compile_file(source, "sm_80", nvcc)
    assert calls(folder) == 4
    compiler.compile_file(source, "sm_80", fake_nvcc(folder, COUNTS, "12.5"))
    assert calls(folder) == 5


def test_all_files_at_once(folder, monkeypatch):
    (folder / "a.cu").write_text('extern "C" __global__ void first(element* x) {}')
    (folder / "b.cu").write_text('extern "C" __global__ void second(float* x) {}')
    monkeypatch.setattr(compiler.resources, "folder", lambda name: folder)
    seen: list[tuple[int, int]] = []
    nvcc = fake_nvcc(folder, COUNTS)
    # What knows no elements is compiled once, not for each type.
    assert compiler.compile_all("sm_80", ("float32", "float16"), lambda *done: seen.append(done), nvcc) == 3
    assert seen == [(1, 3), (2, 3), (3, 3)]
    names = sorted(path.name.rsplit("-", 1)[0] for path in (folder / "cache" / "kernels").iterdir())
    assert names == ["a-float16-sm_80", "a-float32-sm_80", "b-float32-sm_80"]
    fails = fake_nvcc(folder, 'echo "$8(1): error: no" >&2; exit 1', version="13.0")
    with pytest.raises(KernelError):
        compiler.compile_all("sm_80", ("float32",), nvcc=fails)


@pytest.mark.parametrize(
    "said",
    [
        'kernels/x.cu(12): error: identifier "y" is undefined',
        "kernels/x.cu:12:7: error: 'y' was not declared in this scope",
    ],
)
def test_errors_name_file_and_line(folder, said):
    source = folder / "x.cu"
    source.write_text("")
    nvcc = fake_nvcc(folder, f"cat >&2 <<'END'\n{said}\n1 error detected\nEND\nexit 1")
    with pytest.raises(KernelError, match=r"^kernels/x.cu:12  .*y.* (undefined|scope)$"):
        compiler.compile_file(source, "sm_80", nvcc)


def test_a_compiler_that_does_not_know_the_gpu(folder):
    source = folder / "x.cu"
    source.write_text("")
    nvcc = fake_nvcc(folder, "echo \"nvcc fatal   : Unsupported gpu architecture 'compute_120'\" >&2; exit 1")
    with pytest.raises(KernelError, match=r"CUDA 12.4 cannot compile for this GPU \(sm_120\): install another CUDA"):
        compiler.compile_file(source, "sm_120", nvcc)


def test_a_compiler_without_all_of_its_headers(folder):
    """As pip installs it when only nvidia-cuda-nvcc is asked for."""
    source = folder / "x.cu"
    source.write_text("")
    said = "cuda_fp16.h:4504:10: fatal error: nv/target: No such file or directory"
    nvcc = fake_nvcc(folder, f"echo '{said}' >&2; exit 1")
    with pytest.raises(KernelError, match=r"nv/target: pip install nvidia-cuda-cccl"):
        compiler.compile_file(source, "sm_80", nvcc)


def test_signatures():
    text = """
    // extern "C" __global__ void not_this(int a) {}
    extern "C" __global__ void __launch_bounds__(256)
    first(const element* __restrict__ x, float* out, long long count /* of x */, unsigned u, float scale) {}
    extern "C" __global__ void second(const int n) {}
    #define TWICE(X) (2 * X)
    #define PARAMETERS \\
        const float* x, \\
        int n
    extern "C" __global__ void __launch_bounds__(64) third(PARAMETERS) {}
    """
    assert compiler.signatures(text) == {
        "first": Signature("PPqIf", ("element", "float", "", "", "")),
        "second": Signature("i", ("",)),
        "third": Signature("Pi", ("float", "")),
    }
    with pytest.raises(KernelError, match="'Shape s': a kernel takes pointers and int, unsigned"):
        compiler.signatures('extern "C" __global__ void fourth(Shape s) {}')
