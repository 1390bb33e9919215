"""GeoJSON: the properties of places. The coordinates of lines and areas would be most of the text, and say nothing."""

from __future__ import annotations

from typing import Any, Final, TypeGuard

_COLLECTION: Final = "FeatureCollection"
_FEATURE: Final = "Feature"
_GEOMETRIES: Final = frozenset({
    "Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", "GeometryCollection",
})  # fmt: skip
_PARTS: Final = frozenset({"coordinates", "geometries"})


def is_geojson(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a JSON value is a collection of places, a place, or a geometry."""
    if not isinstance(value, dict):
        return False
    kind = _kind(value)
    if kind == _COLLECTION:
        return isinstance(value.get("features"), list)
    return (kind == _FEATURE and "geometry" in value) or (kind in _GEOMETRIES and bool(value.keys() & _PARTS))


def without_coordinates(value: dict[str, Any]) -> Any:
    """The value without coordinates, except those of points; a collection becomes the list of its places."""
    if _kind(value) == _COLLECTION:
        about = {name: inner for name, inner in value.items() if name not in ("type", "features", "bbox", "crs")}
        return [*([about] if about else ()), *map(_place, value["features"])]
    return _place(value)


def _place(value: Any) -> Any:
    """A place or geometry; anything else as it is."""
    if not isinstance(value, dict):
        return value
    kind = _kind(value)
    if kind == _FEATURE:
        kept = {name: inner for name, inner in value.items() if name not in ("type", "geometry", "bbox", "properties")}
        properties = value.get("properties")
        return {
            **kept,
            **(properties if isinstance(properties, dict) else {}),
            "geometry": _place(value.get("geometry")),
        }
    if kind == "Point":
        return {name: inner for name, inner in value.items() if name != "bbox"}
    return kind if kind in _GEOMETRIES else value


def _kind(value: dict[str, Any]) -> str:
    kind = value.get("type")
    return kind if isinstance(kind, str) else ""  # in other JSON it can be a list
