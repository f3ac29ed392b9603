"""Whether tensors fit a network, and in words why not."""

from collections.abc import Collection, Mapping

from torch import Tensor

_SHOWN = 4  # names in a message


def misfit(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str | None:
    """What is wrong with `given` as the state of a network whose own is `expected`; None if all names and shapes agree.

    To be read after "it": lacks 2 tensors: head.bias, head.weight.
    """
    lacking, unknown = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    shared = sorted(expected.keys() & given.keys())
    other = [name for name in shared if expected[name].shape != given[name].shape]
    if lacking:
        return f"lacks {counted(lacking)}"
    if unknown:
        return f"has unknown {counted(unknown)}"
    if other:
        is_now, wanted = (tuple(state[other[0]].shape) for state in (given, expected))
        return f"has misshapen {counted(other)} ({is_now} instead of {wanted})"
    return None


def listed(names: Collection[str]) -> str:
    """The first of some names, and how many more there are."""
    ordered = sorted(names)
    return ", ".join(ordered[:_SHOWN]) + (f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else "")


def counted(names: list[str]) -> str:
    """How many tensors, and the names of the first of them."""
    return f"{len(names)} tensors: {listed(names)}" if len(names) > 1 else f"1 tensor: {names[0]}"
