"""Errors as the API answers them: HTTP code and a `Status` object with reason, message and causes."""

from dataclasses import dataclass
from typing import Any, Self

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing wrong with one field."""

    field: str
    reason: str
    message: str

    @classmethod
    def invalid(cls, field: str, value: Any, detail: str) -> Self:
        """Say that a value breaks a rule."""
        return cls(field, "FieldValueInvalid", f"Invalid value: {shown(value)}: {detail}")

    @classmethod
    def required(cls, field: str, detail: str = "") -> Self:
        """Say that a field is missing."""
        return cls(field, "FieldValueRequired", f"Required value: {detail}" if detail else "Required value")

    @classmethod
    def forbidden(cls, field: str, detail: str) -> Self:
        """Say that a field may not be set or changed."""
        return cls(field, "FieldValueForbidden", f"Forbidden: {detail}")

    @classmethod
    def unsupported(cls, field: str, value: Any, allowed: list[Any]) -> Self:
        """Say which values are supported."""
        listed = ", ".join(shown(choice) for choice in allowed)
        return cls(field, "FieldValueNotSupported", f"Unsupported value: {shown(value)}: supported values: {listed}")

    def as_object(self) -> Object:
        """Return the entry of `details.causes`."""
        return {"reason": self.reason, "message": self.message, "field": self.field}


def shown(value: Any) -> str:
    """Show a value as Kubernetes' messages do."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, (dict, list)):
        return "object" if isinstance(value, dict) else "array"
    return "null" if value is None else str(value)


class StatusError(Exception):
    """An answer other than success."""

    def __init__(
        self, code: int, reason: str, message: str, details: Object | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.headers = headers or {}

    def as_object(self) -> Object:
        """Return the Status object."""
        status: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        status |= {"message": self.message} | ({"reason": self.reason} if self.reason else {})
        if self.details is not None:
            status["details"] = self.details
        return status | {"code": self.code}


def qualified(group: str, plural: str) -> str:
    """Return `deployments.apps`, or `pods` for the core group."""
    return f"{plural}.{group}" if group else plural


def _details(group: str, kind: str, name: str) -> Object:
    return ({"name": name} if name else {}) | ({"group": group} if group else {}) | {"kind": kind}


def not_found(group: str, plural: str, name: str) -> StatusError:
    """Answer 404 for one object."""
    message = f'{qualified(group, plural)} "{name}" not found'
    return StatusError(404, "NotFound", message, _details(group, plural, name))


def no_such_path() -> StatusError:
    """Answer 404 for a resource that is not served at all."""
    return StatusError(404, "NotFound", "the server could not find the requested resource", {})


def not_allowed() -> StatusError:
    """Answer 405 to a method that a resource does not have."""
    return StatusError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def already_exists(group: str, plural: str, name: str) -> StatusError:
    """Answer 409 to a creation."""
    message = f'{qualified(group, plural)} "{name}" already exists'
    return StatusError(409, "AlreadyExists", message, _details(group, plural, name))


def conflict(group: str, plural: str, name: str, why: str = "") -> StatusError:
    """Answer 409 to a write that is based on an older object."""
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on {qualified(group, plural)} "{name}": {why}'
    return StatusError(409, "Conflict", message, _details(group, plural, name))


def invalid(group: str, kind: str, name: str, causes: list[Cause]) -> StatusError:
    """Answer 422 with what is wrong, field by field."""
    told = [f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in causes]
    summary = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
    details = _details(group, kind, name) | {"causes": [cause.as_object() for cause in causes]}
    message = f'{qualified(group, kind)} "{name}" is invalid: {summary}'
    return StatusError(422, "Invalid", message, details)


def bad_request(message: str) -> StatusError:
    """Answer 400."""
    return StatusError(400, "BadRequest", message)


def forbidden(group: str, plural: str, name: str, why: str) -> StatusError:
    """Answer 403."""
    quoted = f' "{name}"' if name else ""
    message = f"{qualified(group, plural)}{quoted} is forbidden: {why}"
    return StatusError(403, "Forbidden", message, _details(group, plural, name))


def expired(message: str) -> StatusError:
    """Answer 410: what was asked for is past the history."""
    return StatusError(410, "Expired", message)


def unsupported_media_type(message: str) -> StatusError:
    """Answer 415."""
    return StatusError(415, "UnsupportedMediaType", message)


def not_emulated(thing: str) -> StatusError:
    """Answer 501 and name what devcluster does not do."""
    return StatusError(501, "NotImplemented", f"devcluster does not emulate {thing}")
