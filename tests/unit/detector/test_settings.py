"""Settings: one message for all that is wrong, files instead of variables, the other color's address."""

import pytest

from anomaly_detector.registry import downloader_environment
from anomaly_detector.settings import SettingsError, read_fetch_settings, read_settings

GOOD = {
    "ANOMALY_MODEL": "cpu-watch",
    "ANOMALY_NAMESPACE": "ml",
    "ANOMALY_POD_NAME": "cpu-watch-blue-1",
    "ANOMALY_POD_UID": "u-1",
    "ANOMALY_COLOR": "blue",
    "ANOMALY_REVISION": "r1",
    "ANOMALY_VERSION": "3",
    "ANOMALY_SOURCE": "models:/m-1",
}


def test_what_is_given_suffices_and_the_rest_has_defaults():
    settings = read_settings(GOOD)
    assert (settings.model, settings.color, settings.other_color) == ("cpu-watch", "blue", "green")
    assert settings.artifact.digest == ""
    assert settings.artifact.allow_pickle is False
    assert settings.kubernetes == ""
    assert settings.bind == "0.0.0.0"


def test_all_that_is_wrong_is_said_in_one_message():
    wrong = {"ANOMALY_COLOR": "red", "ANOMALY_ALLOW_PICKLE": "perhaps", "ANOMALY_DRAIN_SECONDS": "long"}
    with pytest.raises(SettingsError) as refused:
        read_settings({**GOOD, **wrong, "ANOMALY_POD_UID": ""} | {"ANOMALY_SOURCE": "s3://x"})
    lines = str(refused.value).splitlines()
    for name in (*wrong, "ANOMALY_SOURCE", "ANOMALY_POD_UID"):
        assert sum(name in line for line in lines) == 1
    assert "  ANOMALY_COLOR: expected blue or green, got 'red'" in lines


def test_everything_missing_is_named():
    with pytest.raises(SettingsError) as refused:
        read_settings({})
    for name in GOOD:
        assert f"{name}: missing" in str(refused.value)


def test_a_file_may_hold_a_setting_and_its_absence_is_named(tmp_path):
    (tmp_path / "version").write_text("7\n")
    given = {name: value for name, value in GOOD.items() if name != "ANOMALY_VERSION"}
    assert read_settings(given | {"ANOMALY_VERSION_FILE": str(tmp_path / "version")}).version == "7"
    with pytest.raises(SettingsError, match=r"ANOMALY_VERSION_FILE: .*nowhere: No such file"):
        read_settings(given | {"ANOMALY_VERSION_FILE": str(tmp_path / "nowhere")})


def test_the_other_color_is_found_by_the_node_s_variables_else_by_dns():
    settings = read_settings(GOOD | {"CPU_WATCH_GREEN_SERVICE_HOST": "10.0.0.7", "CPU_WATCH_GREEN_SERVICE_PORT": "1"})
    assert settings.neighbours == {"green": "http://10.0.0.7:1", "blue": "http://cpu-watch-blue.ml.svc:8082"}


def test_addresses_of_ip_version_6_are_bracketed():
    settings = read_settings(GOOD | {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"})
    assert settings.kubernetes == "https://[fd00::1]:443"


def test_secrets_come_from_the_mounted_folder_and_show_in_no_repr(tmp_path):
    (tmp_path / "MLFLOW_TRACKING_TOKEN").write_text("s3cr3t\n")
    settings = read_fetch_settings(
        GOOD
        | {
            "ANOMALY_CREDENTIALS_DIR": str(tmp_path),
            "MLFLOW_TRACKING_URI": "http://mlflow",
            "MLFLOW_TRACKING_PASSWORD": "hunter2",
        }
    )
    assert (settings.token, settings.password) == ("s3cr3t", "hunter2")
    assert "s3cr3t" not in repr(settings)
    assert "hunter2" not in repr(settings)


def test_variables_of_the_artifact_store_reach_the_downloader_and_no_others(tmp_path):
    for name, text in {
        "AWS_ACCESS_KEY_ID": "key-id\n", "AWS_SECRET_ACCESS_KEY": "s3cr3t", "MLFLOW_S3_ENDPOINT_URL": "http://minio",
        "MLFLOW_TRACKING_URI": "http://elsewhere", "LD_PRELOAD": "/tmp/x.so", "ca.crt": "",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(text)
    settings = read_fetch_settings(
        GOOD | {"ANOMALY_CREDENTIALS_DIR": str(tmp_path), "MLFLOW_TRACKING_URI": "http://mlflow"}
    )
    given = downloader_environment(settings)
    assert (given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"]) == ("key-id", "s3cr3t")
    assert given["MLFLOW_S3_ENDPOINT_URL"] == "http://minio"
    assert given["MLFLOW_TRACKING_URI"] == "http://mlflow"
    assert "/tmp/x.so" not in given.values()
    assert "s3cr3t" not in repr(settings)


def test_a_secret_that_cannot_be_read_is_named_beside_all_else_and_not_shown(tmp_path):
    (tmp_path / "MLFLOW_TRACKING_PASSWORD").write_bytes(b"hunter2\xff")
    (tmp_path / "AWS_SECRET_ACCESS_KEY").write_bytes(b"hunter2\xff")
    with pytest.raises(SettingsError) as refused:
        read_fetch_settings(GOOD | {"ANOMALY_CREDENTIALS_DIR": str(tmp_path)})
    lines = str(refused.value).splitlines()[1:]
    assert lines[0] == "  MLFLOW_TRACKING_URI: missing"
    assert sorted(lines[1:]) == [
        f"  ANOMALY_CREDENTIALS_DIR: {tmp_path}/{name}: not UTF-8"
        for name in ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD")
    ]
    assert "hunter2" not in str(refused.value)
