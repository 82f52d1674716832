"""Convert a `.keras` file to an inference graph or a SavedModel in a process whose Keras runs on TensorFlow.

python ml_model_development/code/convert.py MODEL.keras MODEL.onnx
python ml_model_development/code/convert.py MODEL.keras FOLDER

Keras' exporters differ with its backend: TensorFlow's folds batch normalisation into the convolutions and leaves some
thirty nodes of a residual network, PyTorch's leaves a hundred, which no runtime fuses, and JAX' needs a package more.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __package__ in {None, ""}:  # run as a script: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main() -> None:
    """Convert the first argument's file to the second's."""
    source, target = map(Path, sys.argv[1:])
    os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # whoever trained may hold the GPU's memory
    import keras

    from ml_model_development.code.export import export_graph
    from ml_model_development.code.saved_model import write_saved_model

    export = export_graph if target.suffix == ".onnx" else write_saved_model
    export(keras.saving.load_model(source, compile=False, safe_mode=True), target)


if __name__ == "__main__":
    main()
