"""What a view transform cannot do without."""

from torch import Tensor

from hdmap_core.errors import ConfigError

FEATURES = "camera features (a backbone)"


def needed(given: Tensor | None, what: str, slot: str) -> Tensor:
    """The tensor itself.

    Args:
        given: of the model's inputs, or of the slot before.
        what: its name, for the message.
        slot: what needs it, for the message.

    Raises:
        ConfigError: if it is None.
    """
    if given is None:
        raise ConfigError(f"{slot} needs {what}; there are none")
    return given
