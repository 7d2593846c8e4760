#!/usr/bin/env python3
"""keras_files.py FOLDER: three models in every spelling of Keras's HDF5 files that its versions, and h5py's, have written.

cnn__SPELLING.h5 is a Sequential model, branches__SPELLING.h5 a Functional one, text__SPELLING.h5 a recurrent one; all files of a model hold the same
weights, so that a reader must predict the same from each. SPELLING "keras2" is what TensorFlow 2.11 writes.
"""
import copy
import json
import os
import sys

import h5py
import numpy as np

RANDOM = np.random.RandomState(7)


def draw(*shape):
    return RANDOM.uniform(-0.6, 0.6, shape).astype("float32")


def initializer(name, **config):
    return {"class_name": name, "config": config}


def dense(name, units, activation="linear"):
    return {"class_name": "Dense", "config": {
        "name": name, "trainable": True, "dtype": "float32", "units": units, "activation": activation, "use_bias": True,
        "kernel_initializer": initializer("GlorotUniform", seed=None), "bias_initializer": initializer("Zeros"),
        "kernel_regularizer": None, "bias_regularizer": None, "activity_regularizer": None, "kernel_constraint": None,
        "bias_constraint": None}}


def input_layer(name, shape):
    return {"class_name": "InputLayer", "config": {
        "batch_input_shape": [None] + shape, "dtype": "float32", "sparse": False, "ragged": False, "name": name}}


CNN = {"class_name": "Sequential", "config": {"name": "cnn", "layers": [
    input_layer("conv_input", [8, 8, 2]),
    {"class_name": "Conv2D", "config": {
        "name": "conv", "trainable": True, "batch_input_shape": [None, 8, 8, 2], "dtype": "float32", "filters": 5,
        "kernel_size": [3, 3], "strides": [1, 1], "padding": "same", "data_format": "channels_last",
        "dilation_rate": [1, 1], "groups": 1, "activation": "linear", "use_bias": True,
        "kernel_initializer": initializer("GlorotUniform", seed=None), "bias_initializer": initializer("Zeros"),
        "kernel_regularizer": initializer("L1L2", l1=0.0, l2=0.0), "bias_regularizer": None, "activity_regularizer": None,
        "kernel_constraint": None, "bias_constraint": None}},
    {"class_name": "BatchNormalization", "config": {
        "name": "bn", "trainable": True, "dtype": "float32", "axis": [3], "momentum": 0.9, "epsilon": 0.001,
        "center": True, "scale": True, "beta_initializer": initializer("Zeros"),
        "gamma_initializer": initializer("Ones"), "moving_mean_initializer": initializer("Zeros"),
        "moving_variance_initializer": initializer("Ones"), "beta_regularizer": None, "gamma_regularizer": None,
        "beta_constraint": None, "gamma_constraint": None}},
    {"class_name": "LeakyReLU", "config": {"name": "leaky", "trainable": True, "dtype": "float32", "alpha": 0.1}},
    {"class_name": "MaxPooling2D", "config": {
        "name": "pool", "trainable": True, "dtype": "float32", "pool_size": [2, 2], "padding": "valid",
        "strides": [2, 2], "data_format": "channels_last"}},
    {"class_name": "Flatten", "config": {
        "name": "flat", "trainable": True, "dtype": "float32", "data_format": "channels_last"}},
    dense("scores", 3, "softmax")]}}
CNN_WEIGHTS = {
    "conv": [("kernel", draw(3, 3, 2, 5)), ("bias", draw(5))],
    "bn": [("gamma", draw(5)), ("beta", draw(5)), ("moving_mean", draw(5)), ("moving_variance", draw(5) ** 2 + 0.1)],
    "leaky": [], "pool": [], "flat": [],
    "scores": [("kernel", draw(80, 3)), ("bias", draw(3))]}


def node(layer, *inbound):
    return dict(layer, name=layer["config"]["name"], inbound_nodes=list(inbound))


BRANCHES = {"class_name": "Functional", "config": {"name": "branches", "trainable": True, "layers": [
    node(input_layer("left", [4])), node(input_layer("right", [4])),
    node(dense("tower", 6, "tanh"), [["left", 0, 0, {}]], [["right", 0, 0, {}]]),
    node({"class_name": "Concatenate", "config": {"name": "join", "trainable": True, "dtype": "float32", "axis": -1}},
         [["tower", 0, 0, {}], ["tower", 1, 0, {}]]),
    node(dense("out", 2), [["join", 0, 0, {}]])],
    "input_layers": [["left", 0, 0], ["right", 0, 0]], "output_layers": [["out", 0, 0]]}}
BRANCHES_WEIGHTS = {
    "left": [], "right": [], "tower": [("kernel", draw(4, 6)), ("bias", draw(6))], "join": [],
    "out": [("kernel", draw(12, 2)), ("bias", draw(2))]}

LSTM = {"class_name": "LSTM", "config": {
    "name": "lstm", "trainable": True, "dtype": "float32", "return_sequences": False, "return_state": False,
    "go_backwards": False, "stateful": False, "unroll": False, "time_major": False, "units": 4, "activation": "tanh",
    "recurrent_activation": "sigmoid", "use_bias": True,
    "kernel_initializer": initializer("GlorotUniform", seed=None),
    "recurrent_initializer": initializer("Orthogonal", gain=1.0, seed=None), "bias_initializer": initializer("Zeros"),
    "unit_forget_bias": True, "kernel_regularizer": None, "recurrent_regularizer": None, "bias_regularizer": None,
    "activity_regularizer": None, "kernel_constraint": None, "recurrent_constraint": None, "bias_constraint": None,
    "dropout": 0.0, "recurrent_dropout": 0.0, "implementation": 2}}
TEXT = {"class_name": "Sequential", "config": {"name": "text", "layers": [
    input_layer("words_input", [7]),
    {"class_name": "Embedding", "config": {
        "name": "words", "trainable": True, "batch_input_shape": [None, 7], "dtype": "float32", "input_dim": 9,
        "output_dim": 5, "embeddings_initializer": initializer("RandomUniform", minval=-0.05, maxval=0.05, seed=None),
        "embeddings_regularizer": None, "activity_regularizer": None, "embeddings_constraint": None,
        "mask_zero": False, "input_length": 7}},
    {"class_name": "Bidirectional", "config": {
        "name": "both", "trainable": True, "dtype": "float32", "layer": LSTM, "merge_mode": "concat"}},
    dense("verdict", 2, "softmax")]}}
TEXT_WEIGHTS = {
    "words": [("embeddings", draw(9, 5))],
    "both": [(f"{way}_lstm/lstm_cell/{name}", draw(*shape)) for way in ("forward", "backward")
             for name, shape in (("kernel", (5, 16)), ("recurrent_kernel", (4, 16)), ("bias", (16,)))],
    "verdict": [("kernel", draw(8, 2)), ("bias", draw(2))]}

TRAINING = {"loss": "mean_squared_error", "metrics": [["mae"]], "weighted_metrics": None, "loss_weights": None,
            "optimizer_config": {"class_name": "Custom>Adam", "config": {
                "name": "Adam", "weight_decay": None, "clipnorm": None, "global_clipnorm": None, "clipvalue": None,
                "use_ema": False, "ema_momentum": 0.99, "ema_overwrite_frequency": None, "jit_compile": False,
                "is_legacy_optimizer": False, "learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999,
                "epsilon": 1e-07, "amsgrad": False}}}


# ---- strings ----

def fixed(padding, charset=h5py.h5t.CSET_ASCII):
    """Fixed length, with one byte more than the longest for a terminator."""
    def put(owner, name, value):
        items = value if isinstance(value, list) else [value]
        size = max((len(i) for i in items), default=0) + 1
        kind = h5py.h5t.C_S1.copy()
        kind.set_size(size)
        kind.set_strpad(padding)
        kind.set_cset(charset)
        fill = b" " if padding == h5py.h5t.STR_SPACEPAD else b"\0"
        raw = np.array([i.encode().ljust(size, fill) for i in items], dtype=f"V{size}")
        space = h5py.h5s.create_simple((len(items),)) if isinstance(value, list) else h5py.h5s.create(h5py.h5s.SCALAR)
        h5py.h5a.create(owner.id, name.encode(), kind, space).write(raw if isinstance(value, list) else raw.reshape(()), kind)
    return put


def put_bytes(owner, name, value):
    """h5py 2: numpy's bytes, fixed and null-padded."""
    owner.attrs[name] = [i.encode() for i in value] if isinstance(value, list) else np.bytes_(value)


def put_variable(owner, name, value):
    """h5py 3: variable length."""
    if isinstance(value, list):
        owner.attrs.create(name, value, dtype=h5py.string_dtype("ascii")) if value else owner.attrs.create(name, [])
    else:
        owner.attrs[name] = value


def put_empty_omitted(owner, name, value):
    if value or not isinstance(value, list):
        put_bytes(owner, name, value)
    else:
        owner.attrs.create(name, np.zeros(0))


def put_chunked(owner, name, value):
    """A list cut in parts, as one that takes more than 64,512 bytes is."""
    if isinstance(value, list) and len(value) > 1:
        for i, part in enumerate(np.array_split(np.array([v.encode() for v in value]), 2)):
            owner.attrs[f"{name}{i}"] = part
    else:
        put_variable(owner, name, value)


# ---- files ----

def write(path, config, weights, put=put_variable, training=TRAINING, store=None, path_of=None, version="2.11.0",
          root="model_weights", top_level=True, more=None):
    """store(group, name, array) writes a data set; path_of(layer, weight) names it below the layer's group."""
    store = store or (lambda group, name, array: group.create_dataset(name, data=array))
    path_of = path_of or (lambda layer, weight: f"{layer}/{weight}:0")
    with h5py.File(path, "w") as f:
        if version:
            put(f, "keras_version", version)
            put(f, "backend", "tensorflow")
        if config is not None:
            put(f, "model_config", json.dumps(config))
        if training is not None and config is not None:
            put(f, "training_config", json.dumps(training))
        g = f.create_group(root) if root else f
        put(g, "layer_names", list(weights))
        if version and root:
            put(g, "backend", "tensorflow")
            put(g, "keras_version", version)
        for layer in sorted(weights):
            group = g.create_group(layer)
            put(group, "weight_names", [path_of(layer, w) for w, _ in weights[layer]])
            for name, array in weights[layer]:
                store(group, path_of(layer, name), array)
        if top_level:
            put(g.create_group("top_level_model_weights"), "weight_names", [])
        if more:
            more(f)


def layers_of(config):
    layers = config["config"]
    return layers if isinstance(layers, list) else layers["layers"]


def changed(config, change):
    new = copy.deepcopy(config)
    for layer in layers_of(new):
        change(layer)
    return new


def keras3(config):
    """What Keras 3 writes into an .h5 file."""
    def tensor(name, index, at):
        return {"class_name": "__keras_tensor__",
                "config": {"shape": [None, 6], "dtype": "float32", "keras_history": [name, index, at]}}

    def change(layer):
        c = layer["config"]
        c["dtype"] = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"},
                      "registered_name": None}
        if "batch_input_shape" in c:
            c["batch_shape"] = c.pop("batch_input_shape")
        if layer["class_name"] == "InputLayer":
            c["dtype"] = "float32"
            c["ragged"] = False
            c["optional"] = False
        else:
            c.pop("batch_shape", None)
        if layer["class_name"] == "BatchNormalization":
            c["axis"] = c["axis"][0]
            c["synchronized"] = False
        if layer["class_name"] == "LSTM":
            del c["time_major"], c["implementation"]
            c.update(zero_output_for_mask=False, seed=None)
        if layer["class_name"] == "Embedding":
            del c["input_length"]
        if layer["class_name"] == "Bidirectional":
            change(c["layer"])
            c["backward_layer"] = copy.deepcopy(c["layer"])
            c["backward_layer"]["config"].update(go_backwards=True, name="backward_lstm")
            c["layer"]["config"]["name"] = "forward_lstm"
        if layer["class_name"] == "LeakyReLU":
            c["negative_slope"] = c.pop("alpha")
        for key, value in c.items():
            if isinstance(value, dict) and key.endswith(("initializer", "regularizer")):
                c[key] = {"module": "keras." + key.split("_")[-1] + "s", **value, "registered_name": None}
        layer["module"] = "keras.layers"
        layer["registered_name"] = None
        layer["build_config"] = {"input_shape": [None, 4]}
        if layer.get("inbound_nodes"):
            calls = []
            for call in layer["inbound_nodes"]:
                tensors = [tensor(*t[:3]) for t in call]
                calls.append({"args": tensors if len(tensors) == 1 else [tensors], "kwargs": {}})
            layer["inbound_nodes"] = calls
    return dict(changed(config, change), module="keras", registered_name=None, build_config={"input_shape": None})


def legacy_optimizer(f):
    g = f.create_group("optimizer_weights")
    g.attrs["weight_names"] = [b"Adam/iter:0", b"Adam/scores/kernel/m:0"]
    g["Adam/iter:0"] = np.int64(12)
    g["Adam/scores/kernel/m:0"] = draw(80, 3)


def strangers(f):
    f.create_group("someone/else")["numbers"] = np.arange(5)
    f.attrs["note"] = "not Keras's"
    f["again"] = f["model_weights"]


def hard_linked(group, name, array):
    there = group.file.require_group("store")
    there[f"a{len(there)}"] = array
    group[name] = there[f"a{len(there) - 1}"]


def packed(group, name, array):
    group.create_dataset(name, data=array, chunks=array.shape, compression="gzip", shuffle=True, fletcher32=True)


def both(folder, spelling, change=lambda config: config, **how):
    for name, config, weights in (("cnn", CNN, CNN_WEIGHTS), ("branches", BRANCHES, BRANCHES_WEIGHTS),
                                  ("text", TEXT, TEXT_WEIGHTS)):
        write(os.path.join(folder, f"{name}__{spelling}.h5"), change(config), weights, **how)


def without_input(config):
    """Keras up to 2.2: the list of layers alone, the input's shape on the first; Functional was called Model."""
    if config["class_name"] == "Functional":
        new = copy.deepcopy(config)
        new["class_name"] = "Model"
        del new["config"]["trainable"]
        return new
    return {"class_name": "Sequential", "config": config["config"]["layers"][1:]}


def short_nodes(config):
    """Three elements for a tensor; a single output that is not in a list."""
    def change(layer):
        if layer.get("inbound_nodes"):
            layer["inbound_nodes"] = [[t[:3] for t in call] for call in layer["inbound_nodes"]]
    new = changed(config, change)
    if "output_layers" in new["config"]:
        new["config"]["output_layers"] = new["config"]["output_layers"][0]
    return new


def open_config(config):
    """Encodings of tuples, ids of shared objects, an open batch."""
    def change(layer):
        c = layer["config"]
        layer["shared_object_id"] = 3
        for key in ("kernel_size", "strides", "pool_size"):
            if key in c:
                c[key] = {"class_name": "__tuple__", "items": c[key]}
        if "kernel_initializer" in c:
            c["kernel_initializer"]["shared_object_id"] = 4
    return changed(config, change)


def main(folder):
    both(folder, "keras2")
    both(folder, "h5py2", put=put_bytes)
    both(folder, "null_terminated", put=fixed(h5py.h5t.STR_NULLTERM))
    both(folder, "space_padded", put=fixed(h5py.h5t.STR_SPACEPAD))
    both(folder, "utf8_fixed", put=fixed(h5py.h5t.STR_NULLPAD, h5py.h5t.CSET_UTF8))
    both(folder, "empty_lists_of_numbers", put=put_empty_omitted)
    both(folder, "lists_in_parts", put=put_chunked)
    both(folder, "no_versions", version=None, top_level=False)
    both(folder, "keras2_2", change=without_input, put=put_bytes, training=None, top_level=False, version="2.2.4")
    both(folder, "short_nodes", change=short_nodes)
    both(folder, "encodings", change=open_config)
    both(folder, "keras3", change=keras3, version="3.9.2",
         path_of=lambda layer, weight: f"functional_1/{layer}/{weight}")
    both(folder, "keras3_flat_names", change=keras3, version="3.9.2", path_of=lambda layer, weight: weight)
    both(folder, "packed", store=packed)
    both(folder, "float64", store=lambda g, name, a: g.create_dataset(name, data=a.astype("f8")))
    both(folder, "big_endian", store=lambda g, name, a: g.create_dataset(name, data=a.astype(">f4")))
    both(folder, "hard_links", store=hard_linked)
    both(folder, "strangers", more=strangers)
    both(folder, "optimizer_weights", more=legacy_optimizer)
    both(folder, "weights_only", change=lambda config: None, root=None, top_level=False)
    both(folder, "weights_only_in_group", change=lambda config: None)
    with h5py.File(os.path.join(folder, "keras3_new.weights.h5"), "w") as f:
        f["layers/dense/vars/0"] = draw(3, 2)


if __name__ == "__main__":
    main(sys.argv[1])
