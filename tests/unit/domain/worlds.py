"""Worlds at well-known points of a model's life."""

import copy
from typing import Any

from tests.unit.domain.world import SPEC, World


def spec(**sections: Any) -> dict[str, Any]:
    """Return the usual spec with some sections merged over it."""
    return _merged(copy.deepcopy(SPEC), sections)


def serving(version: str = "1", **sections: Any) -> World:
    """Return a world in which a first version serves users."""
    world = World(spec(**sections))
    world.promote(version)
    return world


def guarded(**sections: Any) -> World:
    """Return a world in which version 2 serves users and version 1 stands by, warm."""
    world = serving(**sections)
    world.run(9)
    world.promote("2")
    world.run(3)
    return world


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    for key, value in over.items():
        base[key] = _merged(base.get(key, {}), value) if isinstance(value, dict) else value
    return base
