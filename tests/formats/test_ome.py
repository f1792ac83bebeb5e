# SPDX-License-Identifier: Apache-2.0
"""OME-TIFF: stacks of pages with their XML unchanged, entities refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from pellucid.core.errors import FormatError
from pellucid.core.types import Description
from pellucid.formats import ome, tiff

SHAPE = (3, 2, 4, 20, 30)  # T C Z Y X
FACTS = {"axes": "TCZYX", "PhysicalSizeX": 0.2, "PhysicalSizeY": 0.3, "SignificantBits": 12}
FACTS |= {"PhysicalSizeXUnit": "\u00b5m", "PhysicalSizeYUnit": "\u00b5m"}


def full(d: Description) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in d.shape)


@pytest.fixture(params=[None, "zlib"])
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, np.ndarray]:
    values = np.random.default_rng(0).integers(0, 4000, SHAPE).astype("u2")
    path = tmp_path / "stack.ome.tif"
    tifffile.imwrite(path, values, metadata=FACTS, compression=request.param)
    return path, values


def test_pages_are_a_stack_with_pixel_sizes(stack: tuple[Path, np.ndarray]) -> None:
    path, values = stack
    reader = tiff.open(path)
    d = reader.description
    assert (d.shape, d.axes, d.dtype, d.kind) == ((20, 30, 24), ("y", "x", "volume"), "uint16", "intensity")
    assert (d.spacing, d.units) == ((0.3, 0.2, None), ("um", "um", None))
    assert d.witnesses["ome"]["sizes"] == {"SizeX": 30, "SizeY": 20, "SizeZ": 4, "SizeC": 2, "SizeT": 3}
    assert np.array_equal(np.moveaxis(reader.read(full(d)), -1, 0).reshape(SHAPE), values) and not d.notes


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_the_xml_travels(stack: tuple[Path, np.ndarray], dtype: str) -> None:
    path, values = stack
    reader = tiff.open(path)
    d = reader.description.with_(dtype=dtype)
    target = path.with_name("out.ome.tif")
    writer = tiff.splice(target, reader, d)
    writer.write(full(d), reader.read(full(d)).astype(dtype))
    writer.close()
    with tifffile.TiffFile(target) as after, tifffile.TiffFile(path) as before:
        wanted = before.ome_metadata
        assert after.series[0].axes == "TCZYX" and after.series[0].dtype == dtype
        assert np.array_equal(after.asarray(), values)
        if dtype != "uint16":
            wanted = wanted.replace('Type="uint16"', 'Type="float"').replace(' SignificantBits="12"', "")
        assert after.ome_metadata == wanted


def test_a_map_of_one_page_does_not_claim_the_stack(stack: tuple[Path, np.ndarray]) -> None:
    path, _ = stack
    reader = tiff.open(path)
    d = reader.description.with_(dtype="float32", shape=(20, 30), axes=("y", "x"))
    writer = tiff.splice(path.with_name("map.ome.tif"), reader, d)
    writer.write(full(d), np.ones((20, 30), "f4"))
    writer.close()
    again = tiff.open(path.with_name("map.ome.tif")).description
    assert (again.shape, again.notes) == ((20, 30), ()) and "ome" not in again.witnesses


def with_xml(path: Path, xml: str) -> Path:
    plain = {"metadata": None, "ome": False, "photometric": "minisblack"}
    tifffile.imwrite(path, np.zeros((4, 8, 8), "u1"), description=xml, **plain)
    return path


PIXELS = '<Pixels DimensionOrder="XYZCT" Type="uint8" SizeX="8" SizeY="8" SizeZ="{}" SizeC="1" SizeT="1"/>'
XML = f"<OME><Image>{PIXELS}</Image></OME>"


@pytest.mark.parametrize("bomb", ['<!ENTITY a "aaaa">', '<!ENTITY a SYSTEM "file:///etc/passwd">', ""])
def test_entities_are_refused(tmp_path: Path, bomb: str) -> None:
    xml = f"<?xml version='1.0'?><!DOCTYPE OME [{bomb}]>" + XML.format(4)
    with pytest.raises(FormatError, match="declares a document type or entities"):
        tiff.open(with_xml(tmp_path / "a.ome.tif", xml))


def test_what_does_not_fit_is_remarked_on(tmp_path: Path) -> None:
    def codes(xml: str) -> list[str]:
        return [code for code, _ in tiff.open(with_xml(tmp_path / "a.ome.tif", xml)).description.notes]

    assert codes(XML.format(4)) == []
    assert codes(XML.format(9)) == ["ome-planes"]
    assert codes("<OME><Image></OME>") == ["ome-xml"]
    assert codes(XML.format(2).replace("</Image>", "</Image>" + XML.format(2)[5:-6])) == ["ome-images"]


def test_only_the_type_is_rewritten() -> None:
    xml = '<o:OME><o:Pixels ID="P" SignificantBits="12" Type="uint16" SizeX="8"><o:X Type="a"/></o:Pixels></o:OME>'
    wanted = '<o:OME><o:Pixels ID="P" Type="float" SizeX="8"><o:X Type="a"/></o:Pixels></o:OME>'
    assert ome.retyped(xml, "float32") == wanted
