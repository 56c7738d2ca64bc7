"""Watches: Kopf tells us what changed, we remember the newest body and ask for a look at the model it belongs to.

The only file that knows Kopf. Only event handlers are used, so Kopf writes nothing to any object; nothing is decided
here, and a lost event is healed by the next resync.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from anomaly_operator.adapters.kube import PAGE, RESOURCES
from anomaly_operator.adapters.kubeconfig import KubeConfig
from anomaly_operator.domain import names
from anomaly_operator.runtime.importing import without

with without("kubernetes"):  # Kopf would import all of it, only to know its types by sight: half a second and 30 MB
    import kopf

KINDS = (
    "AnomalyModel", "Pod", "Deployment", "Service", "ControllerRevision", "ConfigMap", "ServiceAccount", "RoleBinding",
    "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy", "Job",
)  # fmt: skip
"""Kinds that are watched: the models, and what is labelled with one."""

OnChange = Callable[[str, str | None, dict[str, Any]], None]
"""Called with the kind, the type of the event (None for an object that was there before) and the body."""


def selector(kind: str) -> str | None:
    """Return the label selector of a kind's watch and LIST."""
    return None if kind == names.KIND else names.MODEL_LABEL


async def run(
    config: KubeConfig,
    namespaces: tuple[str, ...],
    on_change: OnChange,
    *,
    ready: asyncio.Event,
    stop: asyncio.Event,
) -> None:
    """Watch until `stop` is set. Returns or raises earlier only if watching is over for good."""
    logging.getLogger("kopf").setLevel(logging.WARNING)
    await kopf.operator(
        registry=_registry(config, on_change),
        settings=_settings(),
        namespaces=namespaces,
        clusterwide=not namespaces,
        standalone=True,
        ready_flag=ready,
        stop_flag=stop,
    )


def _registry(config: KubeConfig, on_change: OnChange) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(
            server=config.server,
            ca_path=str(config.ca_file) if config.ca_file else None,
            ca_data=config.ca_data,
            insecure=config.insecure or None,
            token=config.token(),
            certificate_path=_text(config.client_certificate),
            private_key_path=_text(config.client_key),
        )

    for kind in KINDS:
        _watch(registry, kind, on_change)
    return registry


def _watch(registry: kopf.OperatorRegistry, kind: str, on_change: OnChange) -> None:
    group, _, version = RESOURCES[kind].api_version.rpartition("/")

    @kopf.on.event(group, version, RESOURCES[kind].plural, registry=registry, id=f"watch-{kind}")
    async def changed(event: kopf.RawEvent, **_: Any) -> None:
        body = dict(event["object"])
        # Items of a typed list come without them.
        body.setdefault("apiVersion", RESOURCES[kind].api_version)
        body.setdefault("kind", kind)
        on_change(kind, event["type"], body)


class _NothingStored(kopf.DiffBaseStorage):
    """Kopf's memory of what it handled last, which none of our handlers asks for: it would copy every body whole."""

    def build(
        self,
        *,
        body: kopf.Body,  # noqa: ARG002 - Kopf's interface
        extra_fields: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> kopf.BodyEssence:
        """Return no essence."""
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:  # noqa: ARG002
        """Return none, as none was stored."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Store nothing."""


def _settings() -> kopf.OperatorSettings:
    """Return settings under which Kopf neither writes nor goes blind; each is explained in docs/operator.md."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = _NothingStored()
    settings.networking.error_backoffs = (0.1, 0.2, 0.5, 1, 1)
    settings.networking.request_timeout = 10
    settings.networking.connect_timeout = 2
    settings.watching.inactivity_timeout = 70
    settings.watching.reconnect_backoff = 0.1
    settings.queueing.error_delays = (0.1, 1, 5)
    settings.watching.chunk_size = PAGE
    settings.queueing.worker_limit = None
    settings.queueing.idle_timeout = 0.2
    for kind in KINDS:
        wanted = selector(kind)
        if wanted is not None:
            group, _, version = RESOURCES[kind].api_version.rpartition("/")
            settings.watching.label_selectors[group, version, RESOURCES[kind].plural] = wanted
    return settings


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
