import time

import pytest

from anomaly_devcluster import clock
from anomaly_devcluster.node.environment import ConfigurationError
from anomaly_devcluster.node.volumes import Volumes

CONTAINER = {"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/data", "subPath": "part"}]}


def pod(*volumes):
    metadata = {"name": "p", "namespace": "n", "uid": "u"}
    return {"metadata": metadata, "spec": {"containers": [CONTAINER], "volumes": list(volumes)}}


class Issuer:
    """Issue numbered tokens that live for a given time."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.issued = 0

    async def __call__(self, _audience, _seconds):
        self.issued += 1
        return {
            "token": f"token-{self.issued}",
            "expirationTimestamp": clock.render(time.time() + self.seconds),
        }


def volumes(tmp_path, body, *, objects=None, issuer=None):
    def lookup(kind, name):
        return (objects or {}).get((kind, name))

    return Volumes(body, tmp_path / "volumes", tmp_path / "claims", lookup, issuer or Issuer(1000))


TOKEN = {"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}


async def test_a_token_is_kept_while_it_lives_and_renewed_after_most_of_its_life(tmp_path):
    body = pod(TOKEN)
    issuer = Issuer(1000)
    kept = volumes(tmp_path, body, issuer=issuer)
    assert 790 < await kept.refresh(body) <= 800
    await kept.refresh(body)
    assert issuer.issued == 1


async def test_an_expired_token_is_replaced_in_its_file(tmp_path):
    body = pod(TOKEN)
    kept = volumes(tmp_path, body, issuer=Issuer(-1))
    await kept.refresh(body)
    first = (tmp_path / "volumes" / "v" / "token").read_text()
    await kept.refresh(body)
    assert (first, (tmp_path / "volumes" / "v" / "token").read_text()) == ("token-1", "token-2")
    assert (tmp_path / "volumes" / "v" / "token").stat().st_mode & 0o777 == 0o600


async def test_only_the_keys_asked_for_are_shown(tmp_path):
    items = [{"key": "a", "path": "deep/renamed"}]
    body = pod({"name": "v", "configMap": {"name": "c", "items": items}})
    objects = {("ConfigMap", "c"): {"kind": "ConfigMap", "data": {"a": "1", "b": "2"}}}
    await volumes(tmp_path, body, objects=objects).refresh(body)
    shown = [p.name for p in (tmp_path / "volumes" / "v").iterdir() if not p.name.startswith("..")]
    assert shown == ["deep"]
    assert (tmp_path / "volumes" / "v" / "deep" / "renamed").read_text() == "1"


async def test_a_missing_secret_is_named(tmp_path):
    body = pod({"name": "v", "secret": {"secretName": "keys"}})
    with pytest.raises(ConfigurationError, match='secret "keys" not found'):
        await volumes(tmp_path, body).refresh(body)


async def test_a_volume_of_another_kind_is_refused_by_name(tmp_path):
    body = pod({"name": "v", "csi": {"driver": "x"}})
    with pytest.raises(ConfigurationError, match="csi is not supported"):
        await volumes(tmp_path, body).refresh(body)


def test_a_part_of_a_volume_can_be_mounted(tmp_path):
    body = pod({"name": "v", "emptyDir": {}})
    assert volumes(tmp_path, body).table(CONTAINER) == {"/data": str(tmp_path / "volumes" / "v" / "part")}
