"""Writing to the pod's own object: what a broken mount does, and what it does not do for ever."""

import os
import shutil

import certifi
import pytest

from anomaly_detector.kube import ApiServer, ApplyError, OwnPod


async def test_a_certificate_that_could_not_be_read_once_does_not_end_reporting(tmp_path):
    (tmp_path / "token").write_text("t")
    ca = tmp_path / "ca.crt"
    shutil.copyfile(certifi.where(), ca)
    api = ApiServer("https://127.0.0.1:1", tmp_path)
    pod = OwnPod(api, namespace="ml", pod="p")
    with pytest.raises(ApplyError, match="Connect"):
        await pod.apply({"a": "b"})
    ca.write_text("half a certificate")
    os.utime(ca, (1, 1))
    for _ in range(2):
        with pytest.raises(ApplyError, match="SSL"):
            await pod.apply({"a": "b"})
    shutil.copyfile(certifi.where(), ca)
    os.utime(ca, (1, 1))
    with pytest.raises(ApplyError, match="Connect"):  # it trusts again, and only nobody is there
        await pod.apply({"a": "b"})
    await api.close()
