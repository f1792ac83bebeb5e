# SPDX-License-Identifier: Apache-2.0
"""Give a data set of an open HDF5 file another sample type; layout, attributes and dimension scales stay."""

from __future__ import annotations

from typing import Any

SCALE_KEYS = {"DIMENSION_LIST", "REFERENCE_LIST", "CLASS", "NAME"}
TYPED = {"_FillValue", "missing_value", "valid_min", "valid_max", "valid_range"}  # netCDF: same type as the samples


def retype(file: Any, name: str, dtype: Any) -> Any:
    """Replace a data set by an empty one of another type and return it."""
    old = file[name]
    scales = [list(axis.values()) for axis in old.dims]
    for axis, attached in zip(old.dims, scales, strict=True):
        for scale in attached:
            axis.detach_scale(scale)
    kept = [(key, old.attrs[key], old.attrs.get_id(key).dtype) for key in old.attrs if key not in SCALE_KEYS]
    layout = {"chunks": old.chunks, "compression": old.compression, "compression_opts": old.compression_opts}
    layout.update(shuffle=old.shuffle or None, fletcher32=old.fletcher32 or None)
    layout["maxshape"] = old.maxshape if old.chunks else None
    shape = old.shape
    del file[name]
    new = file.create_dataset(name, shape, dtype, **{k: v for k, v in layout.items() if v is not None})
    for key, value, kind in kept:
        new.attrs.create(key, value, dtype=dtype if key in TYPED else kind)
    for axis, attached in zip(new.dims, scales, strict=True):
        for scale in attached:
            axis.attach_scale(scale)
    return new
