"""One source for processors with and without an instruction that multiplies and adds."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numba import njit, types

from pipeline.flow.optical_flow import compute_flow
from pipeline.flow.window_costs import fill_differences
from pipeline.simd import llvm
from pipeline.simd.registers import (
    EXP2_COEFFICIENTS,
    EXP2_ERROR,
    EXP2_FACTOR,
    broadcast16_from,
    exp2_attenuation,
    load16,
    store,
)
from tests.pipeline.simd.processors import code_for_any_processor, compiled, sum_row

ROOT = Path(__file__).parents[3]
FLOATS = types.Array(types.float32, 1, "C")


KERNELS: dict[str, tuple[Callable[..., None], tuple[types.Type, ...]]] = {
    "costs": (
        fill_differences.py_func,
        (FLOATS, FLOATS, *[types.int64] * 10, FLOATS, types.int64),
    ),
    "filter": (
        sum_row.py_func,
        (FLOATS, types.Array(types.int32, 1, "C"), FLOATS, FLOATS, FLOATS, FLOATS),
    ),
}


@pytest.fixture(params=KERNELS)
def code(request: pytest.FixtureRequest) -> str:
    """LLVM's code of a kernel, for no processor in particular."""
    return code_for_any_processor(*KERNELS[request.param])


def assembly(code: str, triple: str, features: str = "") -> str:
    """What LLVM makes of it for a processor."""
    module, machine = compiled(code, triple, features)
    return str(machine.emit_assembly(module))


def called(assembly: str) -> set[str]:
    """Functions that are called by their names."""
    return set(re.findall(r"\b(?:callq?|bl)\s+_?(\w+)", assembly))


def test_arm_multiplies_and_adds_in_vectors(code: str) -> None:
    made = assembly(code, "aarch64-unknown-linux-gnu")
    assert len(re.findall(r"\bfmla\s+v\d+\.4s", made)) >= 4
    assert not called(made) & {"fma", "fmaf"}


def test_a_processor_without_the_instruction_calls_no_function_for_it(code: str) -> None:
    made = assembly(code, "x86_64-unknown-linux-gnu", "+sse2,-avx,-fma")
    assert len(re.findall(r"\bmulps\b", made)) >= 4
    assert not called(made) & {"fma", "fmaf"}


def test_avx512_works_on_registers_of_sixteen(code: str) -> None:
    made = assembly(code, "x86_64-unknown-linux-gnu", "+avx512f,+avx512bw,+avx512vl,+fma")
    assert len(re.findall(r"\bvfn?m(?:add|sub)\d+ps\b.*zmm", made)) >= 4


@njit
def attenuate(exponents, coefficients, results):  # type: ignore[no-untyped-def]
    c = coefficients
    filled = broadcast16_from(c, 0), broadcast16_from(c, 1), broadcast16_from(c, 2)
    registers = (*filled, broadcast16_from(c, 3))
    for at in range(0, exponents.size, 16):
        store(results, at, exp2_attenuation(load16(exponents, at), registers))


def test_powers_of_two_are_as_exact_as_they_claim_and_fade_to_nothing() -> None:
    exponents = np.linspace(0, 500, 160_000).astype(np.float32)
    results = np.empty_like(exponents)
    attenuate(exponents, np.array(EXP2_COEFFICIENTS, np.float32), results)
    exact = EXP2_FACTOR * np.exp2(-exponents.astype(np.float64))
    normal = exponents < 125
    np.testing.assert_allclose(results[normal], exact[normal], rtol=EXP2_ERROR)
    assert results[~normal].max() < 1e-36
    # Without AVX-512 subnormal numbers are left, which the filter takes as zero.
    assert results[exponents > 200].max() < np.finfo(np.float32).smallest_normal


@pytest.mark.skipif(not llvm.SCALES, reason="this processor has no AVX-512")
def test_avx512_takes_exponents_apart_by_its_own_instructions() -> None:
    arrays = (FLOATS,) * 3
    made = next(iter(njit(types.void(*arrays))(attenuate.py_func).inspect_asm().values()))
    assert re.search(r"\bvscalefps\b.*zmm", made)
    assert re.search(r"\bvreduceps\b.*zmm", made)
    assert "psubusw" not in made


@pytest.mark.slow
def test_the_flow_is_the_same_on_a_processor_of_2003(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (20, 24, 3), np.uint8)
    first = np.kron(coarse, np.ones((4, 4, 1), np.uint8))
    third = np.roll(first, (2, -3), axis=(0, 1))
    np.save(tmp_path / "frames.npy", np.stack([first, third]))
    program = (
        "import numpy as np\n"
        "from pipeline.flow.optical_flow import compute_flow\n"
        "np.save('flow.npy', compute_flow(*np.load('frames.npy')))"
    )
    environment = {
        name: value for name, value in os.environ.items() if name != "NUMBA_CPU_FEATURES"
    }
    subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment
        | {"NUMBA_CPU_NAME": "generic", "NUMBA_CACHE_DIR": "cache", "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=300,
    )
    theirs, ours = np.load(tmp_path / "flow.npy"), compute_flow(first, third)
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-3)
