"""The mounted configuration: what is accepted, what is refused in which words, and what stays in force."""

import json

import pytest

from anomaly_detector.config import Config, ConfigError, LiveConfig, parse_config

SOURCE = {
    "url": "http://i", "org": "o", "bucket": "b", "measurement": "m", "resultMeasurement": "r", "ownerUid": "u",
}  # fmt: skip
CONTRACT = {
    "schemaVersion": 1,
    "heartbeatSeconds": 5,
    "gates": {"errorRate": {"enabled": True, "max": 0.02}, "drift": {"enabled": False, "maxConfidence": 0.5}},
    "drift": {
        "window": 200,
        "consecutiveChecks": 2,
        "falseAlarmsPerDay": 0.5,
        "minVotes": 4,
        "tests": {"ks": 0.01, "wasserstein": 0.4, "anderson": 2.5, "jensenShannon": 0.3, "welch": 3.0},
    },
    "explanations": {"enabled": False, "topK": 5},
    "influxdb": None,
}


def test_every_field_of_the_contract_is_read():
    config = parse_config(json.dumps(CONTRACT))
    assert (config.heartbeat_seconds, config.error_rate_max, config.drift_max_confidence) == (5, 0.02, None)
    assert (config.drift.window, config.drift.consecutive_checks, config.drift.min_votes) == (200, 2, 4)
    assert dict(config.drift.tests) == CONTRACT["drift"]["tests"]
    assert (config.explanations, config.top_k, config.influxdb) == (False, 5, None)


def test_what_is_absent_has_its_default():
    assert parse_config('{"schemaVersion": 1}') == Config()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schemaVersion": 2}, "config.json.schemaVersion: expected 1, got 2"),
        (
            {"heartbeatSeconds": "often"},
            'config.json.heartbeatSeconds: expected a number from 0.1 to 86400, got "often"',
        ),
        ({"gates": []}, r"config.json.gates: expected an object, got \[\]"),
        ({"gates": {"errorRate": {"max": 1.5}}}, "config.json.gates.errorRate.max: expected a number from 0 to 1"),
        ({"gates": {"drift": {"enabled": "no"}}}, "config.json.gates.drift.enabled: expected true or false"),
        ({"drift": {"window": 1}}, "config.json.drift.window: expected a number from 20"),
        ({"drift": {"tests": {"ks": True}}}, "config.json.drift.tests.ks: expected a number"),
        ({"source": SOURCE | {"query": "q"}}, "config.json.source: expected either measurement or query"),
        ({"source": SOURCE | {"url": "influxdb:8086"}}, "config.json.source.url: expected http://"),
        ({"source": SOURCE | {"fields": {"cpu": 1}}}, "config.json.source.fields: expected the name of a field"),
    ],
)
def test_a_wrong_field_is_named(change, words):
    with pytest.raises(ConfigError, match=words):
        parse_config(json.dumps(CONTRACT | change))


def test_all_that_is_wrong_is_said_in_one_message():
    wrong = {
        "heartbeatSeconds": 10**400,
        "gates": {"errorRate": {"enabled": 1, "max": -1}, "drift": []},
        "drift": {"minVotes": None, "tests": {"ks": float("nan")}},
        "explanations": {"topK": 0},
        "influxdb": {"url": "influx", "write": "some"},
        "source": SOURCE | {"ownerUid": "", "intervalSeconds": "1"},
    }
    with pytest.raises(ConfigError) as refused:
        parse_config(json.dumps(CONTRACT | wrong))
    assert sorted(said.split(":")[0].removeprefix("config.json.") for said in str(refused.value).split("; ")) == [
        "drift.minVotes", "drift.tests.ks", "explanations.topK", "gates.drift", "gates.errorRate.enabled",
        "gates.errorRate.max", "heartbeatSeconds", "influxdb.bucket", "influxdb.org", "influxdb.url", "influxdb.write",
        "source.intervalSeconds", "source.ownerUid",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "\x00"])
def test_anything_else_than_an_object_is_refused(text):
    with pytest.raises(ConfigError, match=r"config\.json"):
        parse_config(text)


@pytest.fixture
def folder(tmp_path):
    """A folder as a kubelet mounts it: links through `..data`, which is swapped whole."""
    (tmp_path / "..data").symlink_to(_version(tmp_path, 1, CONTRACT))
    for name in ("config.json", "jwks.json"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    return tmp_path


def _version(folder, number, config):
    place = folder / f"..{number}"
    place.mkdir()
    (place / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    (place / "jwks.json").write_text(json.dumps({"keys": [{"kid": str(number)}]}))
    return place.name


def _swap(folder, number, config):
    (folder / "..new").symlink_to(_version(folder, number, config))
    (folder / "..new").rename(folder / "..data")


def test_a_swapped_mount_is_read_and_told_once(folder):
    live, told = LiveConfig(folder), []
    live.on_change.append(told.append)
    live.poll()
    _swap(folder, 2, CONTRACT | {"heartbeatSeconds": 7})
    live.poll()
    live.poll()
    assert [config.heartbeat_seconds for config in told] == [5, 7]
    assert live.keys["keys"] == [{"kid": "2"}]


def test_what_cannot_be_read_leaves_the_last_good_one_in_force_and_is_said_once(folder, caplog):
    live = LiveConfig(folder)
    live.poll()
    _swap(folder, 2, "{")
    live.poll()
    live.poll()
    assert live.config.heartbeat_seconds == 5
    assert sum("not JSON" in record.message for record in caplog.records) == 1
    assert live.keys["keys"] == [{"kid": "2"}]


def test_an_absent_folder_means_defaults(tmp_path):
    live = LiveConfig(tmp_path / "nowhere")
    live.poll()
    assert live.config == Config()


@pytest.mark.parametrize(
    "text", ["{", '{"schemaVersion": 1, "heartbeatSeconds": 0, "drift": 7}', "[" * 100_000], ids=len
)
def test_a_pod_that_starts_with_what_nobody_can_read_has_the_defaults_until_it_is_mended(folder, caplog, text):
    _swap(folder, 2, text)
    live = LiveConfig(folder)
    live.poll()
    said = [record.getMessage() for record in caplog.records]
    assert live.config == Config()
    assert len(said) == 1
    assert said[0].startswith("the defaults are in force: config.json")
    _swap(folder, 3, CONTRACT)
    live.poll()
    assert live.config == parse_config(json.dumps(CONTRACT))
