"""The files of a multipart/form-data body (RFC 7578), taken apart in memory."""

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import MalformedError, ParameterError, TooLargeError


@dataclass(frozen=True)
class Part:
    """A file of a form: its declared media type, empty where it declares none, and its bytes."""

    media_type: str
    content: bytes


def read_form(data: bytes, content_type: str, *, max_files: int) -> tuple[Part, ...]:
    """Take the files out of a form.

    Args:
        data: the body.
        content_type: the whole Content-Type header, which holds the boundary.
        max_files: most files of one form.

    Returns:
        The files in their order.

    Raises:
        MalformedError: the body is not a complete form.
        ParameterError: the form has a field that is not a file, or no file at all.
        TooLargeError: there are more files.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise MalformedError("multipart/form-data needs a boundary in its Content-Type; let the HTTP client set it")
    form = _Form(max_files)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": form.begin,
                "on_part_data": form.data,
                "on_part_end": form.end,
                "on_header_begin": form.header_begin,
                "on_header_field": form.header_field,
                "on_header_value": form.header_value,
                "on_header_end": form.header_end,
                "on_headers_finished": form.headers_finished,
                "on_end": form.complete,
            },
        )
        parser.write(data)
        parser.finalize()
    except FormParserError as error:
        raise MalformedError(f"the multipart body cannot be read: {error}") from error
    if not form.is_complete:
        raise MalformedError("the multipart body ends before its closing boundary; send it whole")
    if not form.parts:
        raise ParameterError("the form holds no file; send one or more, for example curl -F file=@digit.png")
    return tuple(form.parts)


@dataclass
class _Form:
    """What the parser has seen so far."""

    max_files: int
    parts: list[Part] = field(default_factory=list)
    is_complete: bool = False
    _headers: dict[str, str] = field(default_factory=dict)
    _name: bytearray = field(default_factory=bytearray)
    _value: bytearray = field(default_factory=bytearray)
    _content: bytearray = field(default_factory=bytearray)

    def begin(self) -> None:
        if len(self.parts) == self.max_files:
            raise TooLargeError(f"the form holds more than {self.max_files} files; split it")
        self._headers, self._content = {}, bytearray()

    def header_begin(self) -> None:
        self._name, self._value = bytearray(), bytearray()

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = self._value.decode("latin-1")

    def headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition"))
        if b"filename" not in options:
            name = options.get(b"name", b"").decode("latin-1")
            raise ParameterError(f"the form field {name!r} is not a file; options of a form travel in the query")

    def data(self, data: bytes, start: int, end: int) -> None:
        self._content += data[start:end]

    def end(self) -> None:
        media_type, _ = parse_options_header(self._headers.get("content-type"))
        self.parts.append(Part(media_type.decode("latin-1"), bytes(self._content)))

    def complete(self) -> None:
        self.is_complete = True
