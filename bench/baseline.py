"""The architecture that others serve for this data, trained for a minute: `python bench/baseline.py FOLDER`.

One convolution of 32 filters, pooling, a hidden layer of 100: the usual first network for Fashion-MNIST.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench_images import find_fashion_mnist

from ml_model_development.code.build_model_utils import quiet_import

EPOCHS = 6


def main() -> None:
    """Train it and write the three files of a model into the folder."""
    folder = Path(sys.argv[1])
    data_set = find_fashion_mnist()
    with quiet_import():
        import keras
        from keras import layers

        from ml_model_development.code.export import GRAPH_NAME, KERAS_NAME, export_graph, export_keras
        from ml_model_development.code.quantisation import INT8_NAME, quantise_graph

    keras.utils.set_random_seed(1)
    network = keras.Sequential(
        [
            keras.Input((28, 28, 1), dtype="uint8", name="images"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(100, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    network.compile("adam", "sparse_categorical_crossentropy")
    network.fit(data_set.train.images, data_set.train.labels, batch_size=128, epochs=EPOCHS, verbose=0)
    folder.mkdir(parents=True, exist_ok=True)
    export_keras(network, folder / KERAS_NAME)
    export_graph(network, folder / GRAPH_NAME)
    quantise_graph(folder / GRAPH_NAME, folder / INT8_NAME, data_set.train.images)


if __name__ == "__main__":
    main()
