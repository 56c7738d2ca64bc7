import pytest

from anomaly_operator.settings import PREFIX, SettingsError, load


@pytest.fixture
def environment(tmp_path):
    key = tmp_path / "key.pem"
    key.write_text("key")
    return {
        PREFIX + "NAMESPACE": "ml-ops",
        PREFIX + "DETECTOR_IMAGE": "detector:1",
        PREFIX + "ADMIN_KEY_FILE": str(key),
        PREFIX + "SERVICEACCOUNT_DIR": str(tmp_path),
    }


def test_defaults_are_those_of_the_documentation(environment, tmp_path):
    settings = load(environment)
    assert settings.namespace == "ml-ops"
    assert settings.watch_namespaces == ()
    assert settings.allowed_tracking_uris == ()
    assert settings.require_policy is True
    assert settings.report_heartbeat_seconds == 60
    assert settings.readiness_period_seconds == 2
    assert settings.lease_seconds == 8
    assert settings.port == 8080
    assert settings.log_level == "info"
    assert settings.service_account_dir == tmp_path


def test_the_default_registry_is_the_allowed_one_unless_others_are_listed(environment):
    environment[PREFIX + "TRACKING_URI"] = "http://mlflow:5000/"
    assert load(environment).allowed_tracking_uris == ("http://mlflow:5000",)
    environment[PREFIX + "ALLOWED_TRACKING_URIS"] = "http://a:1, https://b"
    assert load(environment).allowed_tracking_uris == ("http://a:1", "https://b")


def test_a_setting_may_come_from_a_file(environment, tmp_path):
    del environment[PREFIX + "NAMESPACE"]
    (tmp_path / "namespace").write_text("from-a-file\n")
    environment[PREFIX + "NAMESPACE_FILE"] = str(tmp_path / "namespace")
    assert load(environment).namespace == "from-a-file"


def test_one_message_names_everything_that_is_missing_or_wrong(tmp_path):
    with pytest.raises(SettingsError) as error:
        load(
            {
                PREFIX + "PORT": "tcp://10.0.0.1:80",
                PREFIX + "LEASE_SECONDS": "-1",
                PREFIX + "LOG_LEVEL": "loud",
                PREFIX + "REQUIRE_POLICY": "maybe",
                PREFIX + "TRACKING_URI": "sqlite:///x",
                PREFIX + "CREDENTIALS_DIR": str(tmp_path / "nowhere"),
                PREFIX + "IDENTITY_FILE": str(tmp_path / "none"),
                "KUBECONFIG": "somewhere",
            }
        )
    for name in (
        *("NAMESPACE", "DETECTOR_IMAGE", "ADMIN_KEY_FILE", "PORT", "LEASE_SECONDS", "LOG_LEVEL"),
        *("REQUIRE_POLICY", "TRACKING_URI", "CREDENTIALS_DIR", "IDENTITY_FILE"),
    ):
        assert f"{PREFIX}{name}" in str(error.value)


def test_without_a_way_to_the_api_server_the_message_says_so(environment):
    del environment[PREFIX + "SERVICEACCOUNT_DIR"]
    with pytest.raises(SettingsError, match="where the API server is"):
        load(environment)
