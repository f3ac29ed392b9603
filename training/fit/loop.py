"""The training loop. Lightning Fabric does precision, devices and processes; what happens at each step is here."""

import math
import signal
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from lightning.fabric.wrappers import _FabricModule
from rich.console import Console
from rich.markup import escape
from torch import Tensor, distributed, nn
from torch.utils.data import Dataset

from hdmap_core.errors import CheckpointError, HdmapError
from hdmap_core.running.interruption import Interrupted
from training.config import OptimConfig, TrainConfig
from training.data.batches import Batch, load_batches
from training.fit.average import WeightAverage, whole
from training.fit.console import Watch
from training.fit.interruption import Interruption, leave_to_the_loop
from training.fit.optimiser import build_optimizer, schedule
from training.fit.run_folder import RunFolder
from training.fit.state import gather_state, put_state

Terms = dict[str, Tensor]


class DivergedError(HdmapError):
    """The loss, or its gradient, is no longer a number."""


@dataclass(frozen=True)
class Evaluation:
    """What a validation found: numbers (`config.best_by` picks the best model) and (H, W, 3) uint8 RGB pictures."""

    metrics: dict[str, float]
    pictures: dict[str, np.ndarray] = field(default_factory=dict)


def fit(
    fabric: Fabric,
    model: nn.Module,
    terms_of: Callable[[nn.Module, Batch], Terms],
    batches: Dataset[Batch],
    config: TrainConfig,
    run: RunFolder,
    evaluate: Callable[[nn.Module], Evaluation],
    console: Console,
    *,
    learned: nn.Module | None = None,
    until: float = math.inf,
) -> nn.Module:
    """Trains until `optim.steps`, from where the run folder stands; returns the averaged model.

    A step's random numbers and data depend on nothing but seed, step and process, so a resumed run is an
    uninterrupted one. SIGTERM or Ctrl-C ends the run after its step, saved.

    Args:
        fabric: launched.
        model: trained in place.
        terms_of: the objective: model and batch to weighted scalars, whose sum is minimised.
        batches: item i is micro-batch i of the run (`launch.per_process`); step s of process r takes the
            `optim.accumulate` of them that begin at `(s * processes + r) * accumulate`.
        config: the recipe.
        run: where metrics, checkpoints and the state to go on from are kept.
        evaluate: called in the first process with the averaged model every `evaluate_every` steps and at the end.
        console: where progress is shown.
        learned: what the objective itself learns beside the model: optimised and kept to go on with, published nowhere.
        until: stop as soon as a validation's `best_by` is this good.

    Raises:
        DivergedError: as soon as the loss or its gradient is not finite, naming the batch's tokens.
        CheckpointError: if the run folder's state cannot be continued with this recipe.
        OutputError: if the run folder cannot be written.
        Interrupted: after Ctrl-C, in the first process, saved.
    """
    optim = config.optim
    published = fabric.to_device(deepcopy(model))
    learned = fabric.to_device(learned or nn.Module()).train()
    forward, optimizer = _set_up(fabric, model, learned, config)
    rates = [group["lr"] for group in optimizer.param_groups]
    average = WeightAverage(model, published)
    first = _resume(fabric, run, model, learned, average, optimizer.optimizer, console)
    loader = _loader(fabric, batches, range(first, optim.steps), optim.accumulate, config.data.workers)
    watch = Watch(console, first, optim.steps, shown=fabric.is_global_zero)
    started = time.monotonic()
    with Interruption() as interruption, watch:
        if first and _due(first, config.evaluate_every, optim) and not run.is_evaluated(first):
            _validate(fabric, run, average, first, evaluate, watch)  # the run ended between its save and this
        for step in range(first + 1, optim.steps + 1):
            torch.manual_seed(_seed(config.seed, step, fabric.global_rank))
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * schedule(step - 1, optim)
            optimizer.zero_grad()
            numbers, tokens, faults = _gradients(fabric, forward, terms_of, loader, optim.accumulate, step, run)
            _share_gradients(fabric, learned)
            norm = fabric.clip_gradients(forward, optimizer, max_norm=optim.clip_norm, error_if_nonfinite=False)
            assert norm is not None
            numbers["grad_norm"] = float(whole(norm.detach()))
            if not math.isfinite(numbers["grad_norm"]) and optim.precision != "16-mixed":  # its scaler skips the step
                raise _diverged(fabric, "norm of the gradient", step, numbers, tokens, run)
            optimizer.step()
            average.follow(model, min(optim.ema, step / (step + 10)))
            for fault in faults:  # every process tells its own
                Console(stderr=True).print(f"[yellow]step {step}, another keyframe in its place:[/] {escape(fault)}")
            rate = (step - first) * optim.batch_size / (time.monotonic() - started)
            numbers |= {"lr": optimizer.param_groups[0]["lr"], "samples_per_s": rate}
            if log := step % config.log_every == 0:
                run.log("train", step, numbers)
            watch.step(step, numbers, best=run.best_in_words, log=log)
            stop = _any(fabric, interruption.asked is not None)
            if stop or _due(step, config.save_every, optim):
                state = gather_state(model, learned, average, optimizer.optimizer)
                run.save(step, fabric.world_size, average.publish(), state)
            if stop and step < optim.steps:
                again = f"hdmap train {run.path / 'config.yaml'} --resume -o {run.path}"
                watch.say(f"stopped after step {step} as asked; {again} goes on")
                if interruption.asked is signal.SIGINT and fabric.is_global_zero:  # the others just end
                    raise Interrupted(message="")
                break
            if _due(step, config.evaluate_every, optim):
                _validate(fabric, run, average, step, evaluate, watch)
                if run.best >= until:
                    break
    return average.publish()


def _set_up(fabric: Fabric, model: nn.Module, learned: nn.Module, config: TrainConfig) -> tuple[_FabricModule, Any]:
    """The model as Fabric calls it, and the optimiser. The model's batch norms see the batches of all GPUs."""
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
    forward = fabric.setup_module(model)
    return forward, fabric.setup_optimizers(build_optimizer(nn.ModuleList([model, learned]), config.optim))


def _resume(
    fabric: Fabric,
    run: RunFolder,
    model: nn.Module,
    learned: nn.Module,
    average: WeightAverage,
    optimizer: torch.optim.Optimizer,
    console: Console,
) -> int:
    first, processes, tensors = run.restore()
    if fabric.broadcast(first) != first:
        raise CheckpointError(f"the machines do not see the same run folder {run.path}; put it on a shared disk")
    if tensors:
        try:
            put_state(tensors, model, learned, average, optimizer)
        except ValueError as error:
            raise CheckpointError(f"cannot continue from {run.state}: {error}") from None
        console.print(f"going on after step {first}")
        if processes != fabric.world_size and fabric.is_global_zero:
            console.print(
                f"going on with {fabric.world_size} processes where {processes} stopped: the same global batches, so "
                "the same run but for rounding, dropout, and what batch norms see"
            )
    run.begin(first)
    return first


def _loader(fabric: Fabric, batches: Dataset[Batch], steps: range, accumulate: int, workers: int) -> Iterator[Batch]:
    """This process's micro-batches of the steps, in order."""
    begin = [(step * fabric.world_size + fabric.global_rank) * accumulate for step in steps]
    share = [first + part for first in begin for part in range(accumulate)]
    loader = load_batches(
        batches,
        share,
        workers,
        pin_memory=fabric.device.type == "cuda",
        local_processes=getattr(fabric.strategy, "num_processes", 1),
        on_start=leave_to_the_loop,
    )
    return iter(loader) if share else iter(())


def _gradients(
    fabric: Fabric,
    forward: _FabricModule,
    terms_of: Callable[[nn.Module, Batch], Terms],
    loader: Iterator[Batch],
    accumulate: int,
    step: int,
    run: RunFolder,
) -> tuple[dict[str, float], list[str], list[str]]:
    """Runs one step's micro-batches forward and back.

    Returns:
        The terms and their sum `loss`, means over micro-batches and processes; this process's tokens; what is wrong
        with keyframes that were left out.
    """
    numbers: dict[str, float] = {}
    tokens: list[str] = []
    faults: list[str] = []
    forward.train()
    for part in range(accumulate):
        batch = next(loader)
        tokens += batch.tokens
        faults += batch.faults
        with fabric.no_backward_sync(forward, enabled=part + 1 < accumulate):
            terms = terms_of(forward, batch.to(fabric.device, non_blocking=True))
            values = torch.stack(list(terms.values())).float()
            shared = _mean(fabric, values.detach()).tolist()
            for name, value in zip((*terms, "loss"), (*shared, sum(shared)), strict=True):
                numbers[name] = numbers.get(name, 0.0) + value / accumulate
            if not math.isfinite(numbers["loss"]):  # before the way back: torch's grid_sample crashes on NaN there
                raise _diverged(fabric, "loss", step, numbers, tokens, run)
            fabric.backward(values.sum() / accumulate)
    return numbers, tokens, faults


def _share_gradients(fabric: Fabric, learned: nn.Module) -> None:
    """Averages over processes what Fabric, which knows the model only, does not."""
    if fabric.world_size > 1:
        for parameter in learned.parameters():
            own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = _mean(fabric, own)


def _any(fabric: Fabric, flag: bool) -> bool:
    """Whether the flag is up in any process."""
    return bool(_mean(fabric, torch.tensor(float(flag), device=fabric.device)) > 0)


def _mean(fabric: Fabric, value: Tensor) -> Tensor:
    """Over all processes."""
    mean = fabric.all_reduce(value, reduce_op="mean")
    assert isinstance(mean, Tensor)
    return mean


def _validate(
    fabric: Fabric,
    run: RunFolder,
    average: WeightAverage,
    step: int,
    evaluate: Callable[[nn.Module], Evaluation],
    watch: Watch,
) -> None:
    averaged = average.publish()
    if fabric.is_global_zero:
        found = evaluate(averaged)
        run.show(step, found.pictures)
        run.evaluated(step, found.metrics, averaged)
        watch.say(f"step {step}: " + ", ".join(f"{name} {value:.3f}" for name, value in found.metrics.items()))
    run.best = fabric.broadcast(run.best)  # and all wait for the first


def _due(step: int, every: int, optim: OptimConfig) -> bool:
    return step % every == 0 or step == optim.steps


def _seed(seed: int, step: int, rank: int) -> int:
    """Of the random numbers (dropout) of one step in one process."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _diverged(
    fabric: Fabric, what: str, step: int, numbers: dict[str, float], tokens: list[str], run: RunFolder
) -> BaseException:
    """The error, with the frames of all processes; those but the first end without repeating it."""
    if fabric.world_size > 1:
        shares: list[list[str]] = [[] for _ in range(fabric.world_size)]
        distributed.all_gather_object(shares, tokens)
        tokens = [token for share in shares for token in share]
    if not fabric.is_global_zero:
        return SystemExit(2)
    shown = ", ".join(f"{name} {value:.3g}" for name, value in numbers.items())
    return DivergedError(
        f"the {what} is not finite at step {step} ({shown}) on frames {', '.join(tokens)}; "
        f"{run.path} keeps the last good state: lower optim.lr or look at these frames"
    )
