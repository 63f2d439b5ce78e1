"""What is particular to the CPU implementation: threads, processes and memory."""

import multiprocessing
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from model.sepconv import cpu, kernels, separable_convolution


def tensors(taps=13, height=50, width=150, seed=0):
    generator = torch.Generator().manual_seed(seed)
    kernel = (2, taps, height, width)
    shapes = ((2, 3, height + taps - 1, width + taps - 1), kernel, kernel)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def outcome(inputs):
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    output = separable_convolution(*leaves, implementation="cpu")
    return [output.detach(), *torch.autograd.grad(output, leaves, torch.ones_like(output))]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_results_do_not_depend_on_the_number_of_threads(threads):
    results = []
    for number in (1, 2, 5):
        threads(number)
        results.append(outcome(tensors()))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_two_python_threads_may_call_at_once(threads):
    threads(2)
    expected = [outcome(tensors(seed=seed)) for seed in range(4)]
    wrong = []

    def work(seed):
        for _ in range(5):
            result = outcome(tensors(seed=seed))
            pairs = zip(result, expected[seed], strict=True)
            wrong.extend(seed for a, b in pairs if not torch.equal(a, b))

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


class Blended(Dataset):
    """A data set whose samples need the operator."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return separable_convolution(*tensors(seed=index))


def _in_child(inputs, queue):
    queue.put(separable_convolution(*inputs).numpy().tobytes())


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a single core
@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_of_a_data_loader_may_call(threads, method):
    threads(2)
    expected = [separable_convolution(*tensors(seed=seed)) for seed in range(4)]
    loader = DataLoader(
        Blended(), batch_size=None, num_workers=2, multiprocessing_context=method, timeout=120
    )
    for sample, wanted in zip(loader, expected, strict=True):
        assert torch.equal(sample, wanted)


def test_a_forked_process_may_use_threads_of_its_own(threads):
    """The parent's threads do not exist in the child, nor does torch's OpenMP work there."""
    threads(2)
    inputs = tensors()
    expected = separable_convolution(*inputs).numpy().tobytes()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(inputs, queue), daemon=True)
    child.start()
    assert queue.get(timeout=60) == expected
    child.join(timeout=60)
    assert child.exitcode == 0


def test_unwanted_gradients_are_not_computed(monkeypatch):
    ran = []
    monkeypatch.setattr(cpu, "_run", lambda function, *rest: ran.append(function))
    inputs = tensors()
    gradient = torch.ones(2, 3, 50, 150)
    cpu.gradients(gradient, *inputs, (False, True, True))
    cpu.gradients(gradient, *inputs, (True, False, False))
    assert ran == [kernels.kernel_gradients, kernels.frame_gradient]


GUARDED = """
    import ctypes, itertools, mmap
    import numpy as np, torch
    from model.sepconv import cpu, kernels, reference

    libc = ctypes.CDLL(None, use_errno=True)
    held = []

    def guarded(values, at_end):
        # An array that begins right after, or ends right before, a page that cannot be touched.
        size = -(-values.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        region = mmap.mmap(-1, size + 2 * mmap.PAGESIZE)
        held.append(region)
        bytes_ = np.frombuffer(region, np.uint8)
        address = bytes_.ctypes.data
        for page in (address, address + mmap.PAGESIZE + size):
            assert libc.mprotect(ctypes.c_void_p(page), mmap.PAGESIZE, 0) == 0
        start = mmap.PAGESIZE + (size - values.nbytes if at_end else 0)
        array = bytes_[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
        array[...] = values
        return array

    def narrowed(values, channels_last, at_end):
        # The bits of bfloat16, in an array of the same layout.
        bits = (np.ascontiguousarray(values).view(np.int32) >> 16).astype(np.int16)
        if channels_last:
            array = guarded(np.ascontiguousarray(bits.transpose(0, 2, 3, 1)), at_end)
            return array.transpose(0, 3, 1, 2)
        return guarded(bits, at_end)

    def shapes():
        for taps, height, width in itertools.product((1, 5, 20), (1, 18), (1, 17, 70)):
            for channels, channels_last, at_end in itertools.product((1, 4), (0, 1), (0, 1)):
                yield taps, height, width, channels, channels_last, at_end

    def main():
        for case, (taps, height, width, channels, channels_last, at_end) in enumerate(shapes()):
            dtype = (torch.float32, torch.float64)[case // 2 % 2]
            generator = np.random.default_rng(case)

            def make(n, h, w):
                shape = (1, h, w, n) if channels_last else (1, n, h, w)
                values = generator.standard_normal(shape).astype(str(dtype).partition(".")[2])
                array = guarded(values, at_end)
                return array.transpose(0, 3, 1, 2) if channels_last else array

            frame = make(channels, height + taps - 1, width + taps - 1)
            vertical, horizontal = make(taps, height, width), make(taps, height, width)
            gradient, output = make(channels, height, width), make(channels, height, width)
            results = [np.copy(x) for x in (frame, vertical, horizontal)]
            results = [guarded(x, at_end) for x in results]
            cpu._run(kernels.forward, frame, vertical, horizontal, output)
            cpu._run(kernels.frame_gradient, gradient, vertical, horizontal, results[0])
            cpu._run(kernels.kernel_gradients, gradient, frame, vertical, horizontal,
                     results[1], results[2], (True, True))
            inputs = [torch.from_numpy(x).double() for x in (frame, vertical, horizontal)]
            expected = reference.forward(*inputs)
            slopes = reference.gradients(
                torch.from_numpy(gradient).double(), *inputs, (True, True, True)
            )
            for result, wanted in zip((output, *results), (expected, *slopes)):
                np.testing.assert_allclose(result, wanted.numpy(), rtol=0, atol=1e-3)
            if dtype == torch.float32:
                narrow = [narrowed(x, channels_last, at_end) for x in (vertical, horizontal)]
                cpu._run(kernels.forward, frame, *narrow, output)
                wide = [(x.astype(np.int32) << 16).view(np.float32) for x in narrow]
                wide = [torch.from_numpy(x).double() for x in wide]
                expected = reference.forward(inputs[0], *wide)
                np.testing.assert_allclose(output, expected.numpy(), rtol=0, atol=1e-3)
            held.clear()
        print("all", case + 1)

    main()
"""


def test_nothing_outside_the_tensors_is_touched():
    """Pages on either side of each tensor may be neither read nor written: doing so is a crash."""
    script = [sys.executable, "-c", textwrap.dedent(GUARDED)]
    root = Path(cpu.__file__).parents[2]
    run = subprocess.run(script, capture_output=True, text=True, timeout=500, cwd=root)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.startswith("all")
