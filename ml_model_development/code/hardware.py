"""What the backend trains on, and how it does so best."""

from __future__ import annotations

from importlib import import_module

import keras


def has_gpu() -> bool:
    """Whether the backend in use sees a GPU."""
    backend = keras.backend.backend()
    if backend == "torch":
        return bool(import_module("torch").cuda.is_available())
    if backend == "tensorflow":
        return bool(import_module("tensorflow").config.list_physical_devices("GPU"))
    return any(device.startswith(("gpu", "cuda")) for device in keras.distribution.list_devices())


def training_dtype() -> str:
    """Mixed precision on a GPU; on processors it gains nothing with TensorFlow, and 32 bits are what is served."""
    return "mixed_bfloat16" if has_gpu() else "float32"


def compiles_well() -> bool:
    """Whether to compile training steps with XLA.

    JAX does nothing without it. TensorFlow on processors runs these convolutions at half the speed with it (measured).
    """
    backend = keras.backend.backend()
    return backend == "jax" or (backend == "tensorflow" and has_gpu())
