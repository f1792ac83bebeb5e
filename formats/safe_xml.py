# SPDX-License-Identifier: Apache-2.0
"""XML from strangers: no document type, no entities, bounded size and depth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pellucid.core.errors import FormatError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

LARGEST = 64 << 20  # bytes: real metadata stay below 10 MB
DEEPEST = 100


def parse(path: object, where: str, data: bytes | str) -> Element:
    """Return the root element; names lose their namespaces.

    Raises
    ------
    FormatError
        Not well-formed, a document type or entity declared, too large or too deep.
    """
    from xml.etree.ElementTree import TreeBuilder
    from xml.parsers import expat

    if len(data) > LARGEST:
        raise FormatError(path, where, f"is larger than {LARGEST >> 20} MB")
    builder, parser, depth = TreeBuilder(), expat.ParserCreate(namespace_separator="}"), 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise FormatError(path, where, "is nested too deeply")
        builder.start(_local(name), {_local(k): v for k, v in attributes.items()})

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_local(name))

    def refuse(*_: Any) -> None:
        raise FormatError(path, where, "declares a document type or entities, which are not read", "remove the DOCTYPE")

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, ValueError, AssertionError, LookupError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(path, where, f"is not well-formed ({error})", "copy the file again") from None


def words(element: Element | None, way: str, default: str = "") -> str:
    """Return the text found at a path below an element."""
    found = None if element is None else element.findtext(way)
    return default if found is None else found.strip()


def _local(name: str) -> str:
    return name.rpartition("}")[2]
