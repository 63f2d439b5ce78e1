"""A batch on a CPU in equal parts, one thread each.

A step of a small network is some hundred short operations. When threads share each
operation, as in torch, all wait for the last one some hundred times a step; if another process has
one of their cores, each wait costs a time slice. Here a thread takes some of the samples through
the whole network, and all meet twice a step. What a step computes depends on the number of parts,
never on timing.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import torch
from torch import Tensor, nn

Predict = Callable[[Tensor, Tensor], Tensor]
LossOf = Callable[[Tensor], Tensor]


class Parts:
    """Threads that take a batch through a network, each some of its samples.

    Parameters
    ----------
    model : the network, maybe wrapped; called from several threads at once.
    samples : of a batch, at most.
    threads : those beyond ``samples`` work inside operations.
    """

    def __init__(self, model: nn.Module, samples: int, threads: int) -> None:
        self._model = model
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self.count = max(1, min(samples, threads))
        inside = max(1, threads // self.count)
        started = threading.Barrier(self.count)

        def begin() -> None:
            # Each thread has a number of its own, which it takes from the last one set when it
            # first asks: so all have asked before the caller's number is set again.
            torch.set_num_threads(inside)
            started.wait()
            torch.get_num_threads()

        self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="part")
        for job in [self._pool.submit(begin) for _ in range(self.count)]:
            job.result()
        torch.set_num_threads(threads)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def backward(self, first: Tensor, third: Tensor, loss_of: LossOf) -> Tensor:
        """Set the gradients of the parameters, as ``loss.backward()`` of the whole batch does.

        The loss is taken of the whole batch's prediction, so it need not be a mean over samples.

        Parameters
        ----------
        first, third : Tensor [B, 3, H, W]
        loss_of : from the prediction [B, 3, H, W], float32, to a loss.

        Returns
        -------
        Tensor
            The loss, without its graph.
        """
        predictions = list(
            self._pool.map(self._predict, first.chunk(self.count), third.chunk(self.count))
        )
        whole = torch.cat([prediction.detach() for prediction in predictions]).requires_grad_()
        loss = loss_of(whole)
        (slope,) = torch.autograd.grad(loss, whole)
        slopes = slope.split([len(prediction) for prediction in predictions])
        parts = list(self._pool.map(self._gradients, predictions, slopes))
        # In the order of the parts, whichever is done first.
        for parameter, gradient, *others in zip(self._parameters, *parts, strict=True):
            for other in others:
                gradient = gradient + other
            parameter.grad = gradient
        return loss.detach()

    def _predict(self, first: Tensor, third: Tensor) -> Tensor:
        with torch.enable_grad():
            prediction: Tensor = self._model(first, third).float()
        return prediction

    def _gradients(self, prediction: Tensor, slope: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(prediction, self._parameters, slope)

    def predict(self, predict: Predict, first: Tensor, third: Tensor) -> Tensor:
        """``predict(first, third)``, the samples shared by the threads, without gradients."""

        def part(first: Tensor, third: Tensor) -> Tensor:
            with torch.no_grad():
                return predict(first, third)

        return torch.cat(
            list(self._pool.map(part, first.chunk(self.count), third.chunk(self.count)))
        )
