"""How fast a network learns from step to step."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable("fashion")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc] # untyped base
    """A learning rate that rises from a tenth to its peak, then falls to zero, both in straight lines.

    Source: Smith and Topin 2017, "Super-Convergence", arXiv:1708.07120
    """

    def __init__(self, peak: float, *, steps: int, warm_up_steps: int) -> None:
        self.peak, self.steps, self.warm_up_steps = peak, steps, warm_up_steps

    def __call__(self, step: keras.KerasTensor) -> keras.KerasTensor:
        """The learning rate of a step."""
        step = ops.cast(step, "float32")
        rising = 0.1 + 0.9 * step / max(self.warm_up_steps, 1)
        falling = (self.steps - step) / max(self.steps - self.warm_up_steps, 1)
        return self.peak * ops.maximum(ops.minimum(rising, falling), 0.0)

    def get_config(self) -> dict[str, float]:
        """What Keras stores to build it again."""
        return {"peak": self.peak, "steps": self.steps, "warm_up_steps": self.warm_up_steps}
