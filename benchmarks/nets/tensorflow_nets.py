"""Small networks of Keras and TensorFlow with their own answers: ``python tensorflow_nets.py FOLDER``.

Runs where the extra ``keras`` is installed. Writes ``mobile.keras``, ``mobile.h5`` and the SavedModel
``speech``; beside each NAME ``NAME-x.npz`` (64 samples by input name) and ``NAME-y.npz`` (outputs by name).
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers


def mobile() -> keras.Model:
    """Images [32, 32, 3]: BatchNorm, depthwise and separable convolutions, a residual, swish, dropout."""
    image = keras.Input((32, 32, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(image)
    x = layers.BatchNormalization(name="stem_bn")(x)
    x = layers.ReLU(6.0, name="stem_relu")(x)
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    y = layers.Conv2D(8, 1, activation="relu", name="pointwise")(y)
    x = layers.Add(name="join")([x, y])
    x = layers.SeparableConv2D(16, 3, strides=2, padding="same", activation="swish", name="separable")(x)
    x = layers.MaxPooling2D(2, name="pool")(x)
    x = layers.Dropout(0.5, name="dropout")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(10, activation="softmax", name="scores")(x)
    return keras.Model(image, x, name="mobile")


class Speech(tf.Module):
    """Spectrograms [49, 10, 1] with TensorFlow's own operators and no Keras: a small keyword spotter."""

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__(name="speech")

        def variable(*shape: int) -> tf.Variable:
            return tf.Variable(rng.normal(0, 1.5 / np.sqrt(np.prod(shape[:-1])), shape).astype(np.float32))

        self.first, self.first_bias = variable(10, 4, 1, 16), variable(16)
        self.depth, self.point = variable(3, 3, 16, 1), variable(1, 1, 16, 16)
        self.last, self.last_bias = variable(16, 6), variable(6)

    @tf.function(input_signature=[tf.TensorSpec([None, 49, 10, 1], tf.float32, name="spectrogram")])
    def __call__(self, spectrogram: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.name_scope("front"):
            x = tf.nn.conv2d(spectrogram, self.first, [1, 2, 2, 1], "SAME") + self.first_bias
            x = tf.nn.leaky_relu(x, 0.1)
        with tf.name_scope("block"):
            x = tf.nn.depthwise_conv2d(x, self.depth, [1, 1, 1, 1], "SAME")
            x = tf.nn.relu(tf.nn.conv2d(x, self.point, 1, "VALID"))
        with tf.name_scope("head"):
            x = tf.reduce_mean(tf.nn.avg_pool2d(x, 2, 2, "VALID"), [1, 2])
            return {"word": tf.matmul(x, self.last) + self.last_bias}


def main(folder: Path) -> None:
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    network = mobile()
    for weight in network.weights:
        if weight.name == "moving_variance":
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "moving_mean", "bias"):
            weight.assign(rng.normal(0, 0.3, weight.shape))
    network.save(folder / "mobile.keras")
    network.save(folder / "mobile.h5")
    images = rng.normal(size=(64, 32, 32, 3)).astype(np.float32)
    np.savez(folder / "mobile-x.npz", image=images)
    np.savez(folder / "mobile-y.npz", scores=network.predict(images, verbose=0))
    speech = Speech(rng)
    tf.saved_model.save(speech, str(folder / "speech"))
    spectrograms = rng.normal(size=(64, 49, 10, 1)).astype(np.float32)
    np.savez(folder / "speech-x.npz", spectrogram=spectrograms)
    np.savez(folder / "speech-y.npz", word=speech(spectrograms)["word"].numpy())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
