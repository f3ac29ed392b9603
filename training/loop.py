"""The training loop. Lightning Fabric does precision and devices; what happens at each step is on this page."""

import math
import time
from collections.abc import Callable
from copy import deepcopy

import torch
from lightning.fabric import Fabric
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from hdmap_core.errors import HdmapError
from training.config import OptimConfig
from training.data.batches import Batch
from training.run_folder import RunFolder

Terms = dict[str, Tensor]


class DivergedError(HdmapError):
    """The loss, or its gradient, is no longer a number."""


def fit(
    model: nn.Module,
    terms_of: Callable[[nn.Module, Batch], Terms],
    batches: Dataset[Batch],
    optim: OptimConfig,
    run: RunFolder,
    *,
    log_every: int,
    save_every: int,
    evaluate_every: int,
    evaluate: Callable[[nn.Module], dict[str, float]],
    until: float = math.inf,
) -> nn.Module:
    """Trains until `optim.steps`, from where the run folder stands; returns the averaged model.

    Args:
        model: trained in place.
        terms_of: the objective: model and batch to weighted scalars, whose sum is minimised.
        batches: item i is the batch of step i.
        optim: optimiser, schedule, precision.
        run: where metrics, checkpoints and the state to go on from are kept.
        log_every: steps between lines of metrics.
        save_every: steps between checkpoints.
        evaluate_every: steps between validations.
        evaluate: called with the averaged model every `evaluate_every` steps and at the end; its `mAP` picks the best.
        until: stop as soon as a validation's `mAP` is this good.

    Raises:
        DivergedError: as soon as the loss or its gradient is not finite, naming the batch's tokens.
        OutputError: if the run folder cannot be written.
    """
    fabric = Fabric(devices=1, precision=optim.precision)
    average = fabric.to_device(deepcopy(model).eval().requires_grad_(False))
    model, optimizer = fabric.setup(model, _optimizer(model, optim))
    first = run.restore(model=model, average=average, optimizer=optimizer)
    loader = DataLoader(Subset(batches, range(first, optim.steps)), batch_size=None, num_workers=1, prefetch_factor=4)
    started = time.monotonic()
    with _progress() as progress:
        bar = progress.add_task("training", total=optim.steps, completed=first, loss=math.nan)
        for step, batch in enumerate(loader, start=first + 1):
            for group in optimizer.param_groups:
                group["lr"] = optim.lr * schedule(step - 1, optim)
            model.train()
            terms = terms_of(model, _moved(batch, fabric.device))
            loss = torch.stack(list(terms.values())).sum()
            if not torch.isfinite(loss):
                raise _diverged(f"loss is {loss.item()}", step, terms, batch, run)
            optimizer.zero_grad()
            fabric.backward(loss)
            norm = fabric.clip_gradients(model, optimizer, max_norm=optim.clip_norm, error_if_nonfinite=False)
            assert norm is not None  # it is only where a strategy shards the model
            if not torch.isfinite(norm) and optim.precision != "16-mixed":  # there the scaler skips such a step
                raise _diverged(f"norm of the gradient is {norm.item()}", step, terms, batch, run)
            optimizer.step()
            _follow(average, model, min(optim.ema, step / (step + 10)))
            progress.update(bar, advance=1, loss=loss.item())
            if step % log_every == 0:
                numbers = {name: value.item() for name, value in terms.items()}
                rate = (step - first) * optim.batch_size / (time.monotonic() - started)
                numbers |= {"loss": loss.item(), "lr": group["lr"], "grad_norm": float(norm), "samples_per_s": rate}
                run.log("train", step, numbers)
            if step % evaluate_every == 0 or step == optim.steps:
                run.evaluated(step, evaluate(average), average)
            if step % save_every == 0 or step == optim.steps:
                run.save(step, model=model, average=average, optimizer=optimizer)
            if run.best >= until:
                break
    return average


def schedule(step: int, optim: OptimConfig) -> float:
    """Factor on the learning rate: linear warm-up, then a cosine that ends at one hundredth."""
    if step < optim.warmup_steps:
        return (step + 1) / optim.warmup_steps
    done = (step - optim.warmup_steps) / max(1, optim.steps - optim.warmup_steps)
    return 0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2


def _optimizer(model: nn.Module, optim: OptimConfig) -> torch.optim.AdamW:
    """AdamW without decay on norms, biases and other vectors."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": optim.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=optim.lr)


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Moves the averaged weights a step towards the model's; counters and other integers are copied."""
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def _moved(batch: Batch, device: torch.device) -> Batch:
    return Batch(batch.inputs.to(device), batch.targets.to(device), batch.tokens)


def _diverged(what: str, step: int, terms: Terms, batch: Batch, run: RunFolder) -> DivergedError:
    shown = ", ".join(f"{name} {value.item():.3g}" for name, value in terms.items())
    return DivergedError(
        f"the {what} at step {step} ({shown}) on frames {', '.join(batch.tokens)}; "
        f"{run.path} keeps the last good state: lower optim.lr or look at these frames"
    )


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
