"""JSON patch (RFC 6902), JSON merge patch (RFC 7386) and Kubernetes' strategic merge patch."""

from typing import Any

import jsonpatch

from anomaly_devcluster.api.errors import StatusError, bad_request
from anomaly_devcluster.api.schema import ANY, Schema

Object = dict[str, Any]


def json_patch(body: Object, operations: Any) -> Object:
    """Apply RFC 6902 operations.

    Raises StatusError: 400 for what is no patch, 422 for one that does not fit the object.
    """
    if not isinstance(operations, list):
        raise bad_request("error decoding patch: expected a list of operations")
    try:
        patched: Object = jsonpatch.JsonPatch(operations).apply(body)
    except jsonpatch.InvalidJsonPatch as error:
        raise bad_request(f"error decoding patch: {error}") from None
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        raise StatusError(
            422, "Invalid", f"the server rejected our request due to an error in our request: {error}"
        ) from None
    return patched


def merge_patch(target: Any, patch: Any) -> Any:
    """Apply RFC 7386: null deletes, lists are replaced."""
    if not isinstance(patch, dict):
        return patch
    out = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            out.pop(name, None)
        else:
            out[name] = merge_patch(out.get(name), value)
    return out


def strategic_merge(target: Any, patch: Any, schema: Schema) -> Any:
    """Apply a strategic merge patch: as a merge patch, but lists with a merge key are merged by element.

    Understands `$patch: replace|delete|merge`, `$retainKeys`, `$deleteFromPrimitiveList/...`, `$setElementOrder/...`.
    """
    if not isinstance(patch, dict):
        return patch
    directive = patch.get("$patch")
    if directive == "replace":
        return {name: value for name, value in patch.items() if name != "$patch"}
    if directive == "delete":
        return {}
    out = dict(target) if isinstance(target, dict) else {}
    if (retained := patch.get("$retainKeys")) is not None:
        out = {name: value for name, value in out.items() if name in retained}
    for name, value in patch.items():
        if name in ("$patch", "$retainKeys") or name.startswith("$setElementOrder/"):
            continue
        if name.startswith("$deleteFromPrimitiveList/"):
            field = name.partition("/")[2]
            out[field] = [item for item in out.get(field, []) if item not in value]
        elif value is None:
            out.pop(name, None)
        else:
            out[name] = _merge_field(out.get(name), value, schema.child(name))
    for name, order in patch.items():
        if name.startswith("$setElementOrder/"):
            _set_order(out, name.partition("/")[2], order, schema)
    return out


def _merge_field(current: Any, value: Any, schema: Schema) -> Any:
    if not isinstance(value, list):
        return strategic_merge(current, value, schema)
    if schema.patch_key:
        return _merge_list(current or [], value, schema)
    if schema.patch_merge:
        return [*(current or []), *(item for item in value if item not in (current or []))]
    return value


def _merge_list(current: list[Any], patch: list[Any], schema: Schema) -> list[Any]:
    key, items = schema.patch_key, schema.items or ANY
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if item.get("$patch") != "replace"]
    by_key = {item.get(key): item for item in current}
    added: list[Any] = []
    for item in patch:
        if not isinstance(item, dict) or not isinstance(item.get(key), (str, int)):
            raise bad_request(f"map: {item} does not contain declared merge key: {key}")
        if item.get("$patch") == "delete":
            by_key.pop(item[key], None)
        elif item[key] in by_key:
            by_key[item[key]] = strategic_merge(by_key[item[key]], item, items)
        else:
            added.append(strategic_merge({}, item, items))
            by_key[item[key]] = added[-1]
    patched = [item[key] for item in patch if item[key] in by_key]
    # Elements of the patch come in the patch's order, before the others that are not placed by it, as in Kubernetes.
    kept = [item[key] for item in current if item.get(key) in by_key and item[key] not in patched]
    return [by_key[name] for name in _interleave(patched, kept, [item.get(key) for item in current])]


def _interleave(patched: list[Any], kept: list[Any], before: list[Any]) -> list[Any]:
    """Merge two orders: `patched` keeps its order, an element of `kept` stands before one that it stood before."""
    position = {name: index for index, name in enumerate(before)}
    out: list[Any] = []
    left = list(kept)
    for name in patched:
        while left and name in position and position[left[0]] < position[name]:
            out.append(left.pop(0))
        out.append(name)
    return out + left


def _set_order(out: Object, field: str, order: list[Any], schema: Schema) -> None:
    child = schema.child(field)
    if field not in out or not isinstance(out[field], list):
        return
    names = [item.get(child.patch_key) if isinstance(item, dict) else item for item in order]
    rank = {name: index for index, name in enumerate(names)}

    def place(item: Any) -> int:
        return rank.get(item.get(child.patch_key) if isinstance(item, dict) else item, len(rank))

    out[field] = sorted(out[field], key=place)
