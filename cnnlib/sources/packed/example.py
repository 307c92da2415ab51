"""Reads `tf.train.Example`, the record of TFRecord files, without TensorFlow.

The message is described as TensorFlow defines it in tensorflow/core/example/feature.proto and example.proto, in a pool
of its own, so that it does not get in the way of TensorFlow's.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

_FIELD = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "cnnlib"


def parse_example(data: bytes) -> dict[str, list[Any]]:
    """Returns the values of every feature by name: bytes, floats or integers.

    Raises:
        ValueError: the bytes are no Example.
    """
    example = _example_class()()
    try:
        example.ParseFromString(data)
    except message.DecodeError as err:
        raise ValueError(f"not a tf.train.Example: {err}") from err
    found = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        found[name] = [] if kind is None else list(getattr(feature, kind).value)
    return found


@cache
def _example_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="cnnlib/example.proto", package=_PACKAGE, syntax="proto3")
    for name, kind in (
        ("BytesList", _FIELD.TYPE_BYTES),
        ("FloatList", _FIELD.TYPE_FLOAT),
        ("Int64List", _FIELD.TYPE_INT64),
    ):
        file.message_type.add(name=name).field.add(
            name="value", number=1, type=kind, label=_FIELD.LABEL_REPEATED
        )
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, kind_name) in enumerate(
        (("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List")), start=1
    ):
        field = _add_message(feature, name, number, kind_name, _FIELD.LABEL_OPTIONAL)
        field.oneof_index = 0
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=_FIELD.TYPE_STRING, label=_FIELD.LABEL_OPTIONAL)
    _add_message(entry, "value", 2, "Feature", _FIELD.LABEL_OPTIONAL)
    _add_message(features, "feature", 1, "Features.FeatureEntry", _FIELD.LABEL_REPEATED)
    _add_message(file.message_type.add(name="Example"), "features", 1, "Features", _FIELD.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Example"))


def _add_message(owner: Any, name: str, number: int, kind: str, label: Any) -> Any:
    return owner.field.add(
        name=name, number=number, type=_FIELD.TYPE_MESSAGE, type_name=f".{_PACKAGE}.{kind}", label=label
    )
