"""A request for inference as it travels: a JSON object, and behind it the tensors that it says are binary."""

import math
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from artifact.manifest import Tensor
from service.errors import MalformedError, ParameterError, TooLargeError
from service.v2.names import DATATYPES, Target

HEADER_LENGTH = "inference-header-content-length"
"""The HTTP header that says how long the JSON object is, where tensors follow it."""


class _Part(BaseModel):
    """A piece of a request; what it says beyond the fields is not for us."""

    model_config = ConfigDict(strict=True, frozen=True)


class TensorParameters(_Part):
    """How a tensor travels."""

    binary_data_size: int | None = Field(default=None, ge=0, description="bytes of the tensor behind the JSON object")
    shared_memory_region: Any = Field(default=None, description="refused")


class InputTensor(_Part):
    """An input."""

    name: str
    shape: tuple[int, ...] = Field(max_length=16)
    datatype: str
    parameters: TensorParameters = TensorParameters()
    data: list[Any] | None = Field(default=None, description="the elements in row-major order, nested or flat")


class OutputParameters(_Part):
    """How an output shall travel."""

    binary_data: bool | None = Field(default=None, description="whether it follows the JSON object as bytes")
    classification: int = Field(default=0, description="refused unless 0")
    shared_memory_region: Any = Field(default=None, description="refused")


class RequestedOutput(_Part):
    """An output that is asked for."""

    name: str
    parameters: OutputParameters = OutputParameters()


class RequestParameters(_Part):
    """Of the whole request."""

    binary_data_output: bool = Field(default=False, description="whether outputs follow the JSON object as bytes")
    priority: int = Field(default=0, ge=0, description="2 or more: after all other work")
    timeout: int | None = Field(default=None, gt=0, description="microseconds after which nobody waits any more")
    sequence_id: int | str = Field(default=0, description="refused unless 0")


class InferRequest(_Part):
    """A request for inference."""

    id: str | None = None
    parameters: RequestParameters = RequestParameters()
    inputs: tuple[InputTensor, ...] = Field(max_length=64)
    outputs: tuple[RequestedOutput, ...] = Field(default=(), max_length=64)


def split(body: bytes, header_length: str | None, max_json_bytes: int) -> tuple[InferRequest, memoryview]:
    """Take a body apart.

    Args:
        body: the whole of it.
        header_length: the header `HEADER_LENGTH`; None where the JSON object is all.
        max_json_bytes: the longest JSON object that is taken.

    Returns:
        The JSON object, and the bytes behind it.

    Raises:
        MalformedError: it is not JSON, or shorter than its header says.
        ParameterError: a member is missing, or not what it should be.
        TooLargeError: the JSON object is too long.
    """
    length = json_length(header_length, len(body))
    if length > max_json_bytes:
        raise TooLargeError(
            f"the JSON object has {length} bytes, at most {max_json_bytes} are taken; send tensors as binary data"
        )
    try:
        request = InferRequest.model_validate_json(body[:length])
    except ValidationError as error:
        raise _refusal(error) from error
    _refuse_what_is_not_done(request)
    return request, memoryview(body)[length:]


def json_length(header: str | None, most: int) -> int:
    """Tell how long the JSON object of a body is.

    Args:
        header: the header `HEADER_LENGTH`; None where the JSON object is all.
        most: the length of the body.

    Raises:
        MalformedError: the header is not a length, or longer than the body.
    """
    if header is None:
        return most
    if not (header.isascii() and header.isdigit() and len(header) < 20 and 0 < int(header) <= most):
        raise MalformedError(
            f"Inference-Header-Content-Length is {header[:40]!r}, expected the length of the JSON object, "
            f"1 .. {most}, the length of the body"
        )
    return int(header)


def _refusal(error: ValidationError) -> MalformedError | ParameterError:
    """Tell what is wrong with a JSON object."""
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return MalformedError(
            f"the body does not begin with a JSON object: {first['msg']}; where tensors follow it as bytes, "
            "Inference-Header-Content-Length says how long it is"
        )
    place = ".".join(map(str, first["loc"])) or "the JSON object"
    return ParameterError(f"{place}: {first['msg']}; GET /v2/models/<model> tells what a request looks like")


def _refuse_what_is_not_done(request: InferRequest) -> None:
    if request.parameters.sequence_id not in (0, ""):
        raise ParameterError("sequence_id: there are no sequences here; every request stands for itself")
    tensors: list[InputTensor | RequestedOutput] = [*request.inputs, *request.outputs]
    for tensor in tensors:
        if tensor.parameters.shared_memory_region is not None:
            raise ParameterError(f"{tensor.name[:80]!r}: shared memory is not taken; send and ask for binary data")
    for output in request.outputs:
        if output.parameters.classification:
            raise ParameterError(f"{output.name[:80]!r}: there are no classes to rank here; ask for the tensor")


def read_inputs(request: InferRequest, binary: memoryview, target: Target) -> dict[str, NDArray[Any]]:
    """Read the inputs of a graph, each of the element type and shape that it declares.

    Args:
        request: the JSON object.
        binary: what follows it.
        target: the graph.

    Returns:
        The inputs by name; views of the body where their bytes lie so that they can be read in place.

    Raises:
        ParameterError: an input is missing, unknown, of another type or shape, or not as long as its shape says.
    """
    declared = {tensor.name: tensor for tensor in target.graph.inputs}
    names = [tensor.name for tensor in request.inputs]
    if sorted(names) != sorted(declared):
        given = ", ".join(name[:80] for name in names) or "none"
        raise ParameterError(f"the inputs are {given}, {target.name} takes just: {', '.join(declared)}")
    arrays: dict[str, NDArray[Any]] = {}
    start = 0
    for tensor in request.inputs:
        like = declared[tensor.name]
        _check_declaration(tensor, like, target)
        size = tensor.parameters.binary_data_size
        if (size is None) == (tensor.data is None):
            raise ParameterError(f"{tensor.name}: give either data or binary_data_size")
        if size is None:
            arrays[tensor.name] = _from_json(tensor, like)
        else:
            arrays[tensor.name] = _from_bytes(tensor, like, binary[start : start + size], size)
            start += size
    if start != len(binary):
        raise ParameterError(f"{len(binary)} bytes follow the JSON object, its tensors have {start}")
    return arrays


def _check_declaration(tensor: InputTensor, like: Tensor, target: Target) -> None:
    """Hold what a request says of an input against the graph."""
    datatype = DATATYPES[like.dtype]
    fits = len(tensor.shape) == len(like.shape) and all(
        size == axis if isinstance(axis, int) else size > 0 for axis, size in zip(like.shape, tensor.shape, strict=True)
    )
    if tensor.datatype != datatype or not fits:
        expected = ", ".join(map(str, like.shape))
        raise ParameterError(
            f"{tensor.name} is {tensor.datatype[:40]} {list(tensor.shape)}, "
            f"{target.name} takes {datatype} [{expected}], each axis at least 1"
        )


def _from_bytes(tensor: InputTensor, like: Tensor, content: memoryview, size: int) -> NDArray[Any]:
    dtype = np.dtype(like.dtype).newbyteorder("<")
    expected = math.prod(tensor.shape) * dtype.itemsize
    if size != expected or len(content) != expected:
        raise ParameterError(
            f"{tensor.name}: binary_data_size is {size} and {len(content)} bytes are there, "
            f"{tensor.datatype} {list(tensor.shape)} has {expected}"
        )
    return np.require(np.frombuffer(content, dtype).reshape(tensor.shape), like.dtype, ["C", "ALIGNED"])


def _from_json(tensor: InputTensor, like: Tensor) -> NDArray[Any]:
    """Read numbers from JSON, in rows or one after the other."""
    shape, flat = _unfold(tensor.data or [])
    kinds = {int, float} if like.dtype.startswith("float") else {int}
    if not kinds.issuperset(map(type, flat)) or shape not in (tensor.shape, (math.prod(tensor.shape),)):
        numbers = "numbers" if float in kinds else "whole numbers"
        raise ParameterError(
            f"{tensor.name}: data has the shape {list(shape)}, expected {numbers} of the shape {list(tensor.shape)}, "
            "or one after the other"
        )
    try:
        # NumPy refuses whole numbers that the type does not hold; reals become infinite, and are refused as such.
        array = np.array(flat, np.float64 if float in kinds else like.dtype)
        with np.errstate(over="ignore"):
            return array.astype(like.dtype).reshape(tensor.shape)
    except OverflowError as error:
        raise ParameterError(f"{tensor.name}: data holds a number that {tensor.datatype} does not") from error


def _unfold(data: list[Any]) -> tuple[tuple[int, ...], list[Any]]:
    """Give the shape of lists in lists, as far as they are all of one length, and what is in the innermost."""
    shape = [len(data)]
    while set(map(type, data)) == {list} and len(lengths := set(map(len, data))) == 1:
        shape.append(lengths.pop())
        data = list(chain.from_iterable(data))
    return tuple(shape), data
