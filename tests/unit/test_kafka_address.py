"""What a Kafka URL may say, and that no sentence about it tells a password."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from handoff.brokers.kafka.address import BROKER_CHOOSES, DEFAULT_PARTITIONS, Address, parse_address
from handoff.brokers.kafka.calls import meaning
from handoff.brokers.kafka.clients import Clients
from handoff.contracts.errors import SettingsInvalid

# Nobody listens there, and nothing here waits for an answer.
NOWHERE = "127.0.0.1:1"


def refusal(url: str) -> str:
    """The sentence that a URL is refused with."""
    with pytest.raises(SettingsInvalid) as refused:
        parse_address(url)
    return str(refused.value)


def test_a_host_is_enough() -> None:
    """Everything else has a default: a consumer group, eight partitions, as many replicas as the cluster keeps."""
    assert parse_address("kafka://localhost:9092") == Address(
        "localhost:9092",
        mode="consumer-group",
        partitions=DEFAULT_PARTITIONS,
        replication=BROKER_CHOOSES,
        properties={},
    )


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("kafka://a:9092,b:9092,c:9093", "a:9092,b:9092,c:9093"),
        ("kafka://a:9092/", "a:9092"),
        ("kafka://[::1]:9092/?mode=share-group", "[::1]:9092"),
        ("kafka://a", "a"),
    ],
)
def test_several_servers_may_be_named(url: str, servers: str) -> None:
    """As librdkafka takes them, with or without a slash behind."""
    assert parse_address(url).servers == servers


def test_options_say_what_init_makes_and_how_groups_work() -> None:
    """The adapter's own three, beside properties of Kafka's client under their own names."""
    address = parse_address(
        "kafka://a:9092?mode=share-group&partitions=12&replication=3&security.protocol=SASL_SSL&client.id=a%26b"
    )
    assert (address.mode, address.partitions, address.replication) == ("share-group", 12, 3)
    assert address.properties == {"security.protocol": "SASL_SSL", "client.id": "a&b"}


@pytest.mark.parametrize(
    "url",
    ["kafka://", "kafka:///", "kafka:a:9092", "kafka://?mode=share-group", "kafka://a:9092/topic", "kafka://a:9092#b"],
)
def test_a_url_without_a_cluster_says_how_one_looks(url: str) -> None:
    """Nothing is guessed."""
    assert "use kafka://HOST:9092" in refusal(url)


@pytest.mark.parametrize(
    "server", ["a:x", "a:99999", "a:0", "a:", ":9092", "a:1:2", "::1", "a:9092,", ",", "[]:1", "a b", "a:٣"]
)
def test_a_server_is_a_host_and_a_port(server: str) -> None:
    """The client library would connect to another port, and wait half a minute for it."""
    assert "which is no HOST:PORT; use kafka://HOST:9092" in refusal(f"kafka://{server}")


@pytest.mark.parametrize("name", ["partitions", "replication"])
@pytest.mark.parametrize("value", ["0", "-1", "", "1.5", "ten", "٣", "10000", "9" * 5_000])
def test_counts_are_whole_numbers_from_one(name: str, value: str) -> None:
    """The sentence names the option."""
    assert f"{name}={value}"[:40] in refusal(f"kafka://a:9092?{name}={value}")


def test_an_unknown_mode_names_the_known_ones() -> None:
    """There are two."""
    assert "use consumer-group or share-group" in refusal("kafka://a:9092?mode=queue")


@pytest.mark.parametrize(
    "name",
    [
        "group.id", "enable.auto.commit", "acks", "bootstrap.servers", "auto.offset.reset", "transactional.id",
        # What the library takes from programs only, and raises a TypeError, a ValueError or an AttributeError for.
        "error_cb", "stats_cb", "throttle_cb", "oauth_cb", "default.topic.config", "delivery.report.only.error",
    ],
)  # fmt: skip
def test_what_the_promises_rest_on_is_not_the_users_to_set(name: str, tmp_path: Path) -> None:
    """Neither in the URL nor in the file."""
    assert f"The Kafka property {name} is the adapter's own" in refusal(f"kafka://a:9092?{name}=x")
    path = tmp_path / "client.properties"
    path.write_text(f"{name}=x\n")
    assert f"The Kafka property {name} is the adapter's own" in refusal(f"kafka://a:9092?properties={path}")


class TestPropertiesFile:
    """A file as Kafka's own tools read one."""

    def test_its_lines_are_properties(self, tmp_path: Path) -> None:
        """Spaces, comments, empty lines, equals signs in values and either line end; the URL goes before the file."""
        path = tmp_path / "client.properties"
        path.write_bytes(
            "# cluster of the tests\r\n\n sasl.username = fashion \nsasl.password=a=b&c+d%20=\r\n"
            "ssl.ca.location=/grün/ca.pem\nclient.id=file\nempty=\n".encode()
        )
        assert parse_address(f"kafka://a:9092?client.id=url&properties={path}").properties == {
            "sasl.username": "fashion",
            "sasl.password": "a=b&c+d%20=",
            "ssl.ca.location": "/grün/ca.pem",
            "client.id": "url",
            "empty": "",
        }

    @pytest.mark.parametrize("content", [b"sasl.password Sesam\n", b"=Sesam\n"])
    def test_a_line_that_is_none_is_refused_and_not_quoted(self, content: bytes, tmp_path: Path) -> None:
        """It may well be a password."""
        path = tmp_path / "client.properties"
        path.write_bytes(content)
        sentence = refusal(f"kafka://a:9092?properties={path}")
        assert "name=value" in sentence
        assert "Sesam" not in sentence

    def test_one_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        """Missing, a folder, no text, or none that any system could have."""
        assert "cannot be read" in refusal("kafka://a:9092?properties=a%00b")
        binary = tmp_path / "binary"
        binary.write_bytes(b"\xff\xfe=")
        for path in (tmp_path / "none", tmp_path, binary):
            assert f"cannot be read from {path}" in refusal(f"kafka://a:9092?properties={path}")


@pytest.mark.parametrize(
    "url",
    [
        "kafka://fashion:Sesam-open@a:9092",
        "kafka://a:9092/topic?sasl.username=fashion&sasl.password=Sesam-open",
        "kafka://a:9092#?ssl.key.password=Sesam-open",
        "kafka://a:9092/x?sasl.oauthbearer.client.secret=Sesam-open",
    ],
)
def test_a_refused_url_is_told_without_its_password(url: str) -> None:
    """Where somebody wrote one into it."""
    sentence = refusal(url)
    assert "Sesam" not in sentence
    assert "a:9092" in sentence


class TestClients:
    """What Kafka's client library says of what is passed on to it."""

    def made(self, url: str) -> str:
        """The sentence that a client is refused with."""
        with pytest.raises(SettingsInvalid) as refused:
            Clients(parse_address(url)).admin()
        return str(refused.value)

    def test_a_property_that_there_is_not_is_named(self) -> None:
        """A slip of the pen is found when a program starts."""
        sentence = self.made(f"kafka://{NOWHERE}?sasl.passwort=Sesam")
        assert "sasl.passwort" in sentence
        assert "Sesam" not in sentence

    def test_a_value_that_does_not_fit_is_named(self) -> None:
        """With the property it is for."""
        assert "security.protocol" in self.made(f"kafka://{NOWHERE}?security.protocol=TLS")

    def test_a_property_that_a_share_consumer_does_not_have_is_named(self) -> None:
        """Of which the library tells in another way than of all others."""
        clients = Clients(parse_address(f"kafka://{NOWHERE}?mode=share-group&group.remote.assignor=uniform"))
        with pytest.raises(SettingsInvalid, match=r"Cannot connect to .*group\.remote\.assignor"):
            clients.share_consumer("g")

    @pytest.mark.parametrize("ack_deadline_s", [0.0, 10.0, 600.0])
    def test_any_ack_deadline_suits_either_protocol(self, ack_deadline_s: float) -> None:
        """The library refuses sessions over five minutes; Pub/Sub's ack deadlines go up to ten."""
        for is_classic in (True, False):
            consumer = Clients(Address(NOWHERE)).consumer("g", ack_deadline_s=ack_deadline_s, classic=is_classic)
            consumer.close()


class TestTrouble:
    """What is heard of a connection, for a question that only ran out of time."""

    @staticmethod
    def after(*codes: int) -> int:
        """What is told when these were heard."""
        clients = Clients(parse_address(f"kafka://{NOWHERE}"))
        for code in codes:
            clients._hear(KafkaError(code, "heard"))
        return clients.trouble().code()

    def test_a_refusal_goes_before_what_else_was_heard(self) -> None:
        """A password that is wrong is the reason, though the connection breaks afterwards."""
        refused, broken = KafkaError._AUTHENTICATION, KafkaError._TRANSPORT
        assert self.after(refused, broken) == self.after(broken, refused) == refused
        assert self.after(KafkaError._RESOLVE) == self.after(KafkaError._RESOLVE, KafkaError._ALL_BROKERS_DOWN)

    def test_a_silent_listener_is_named(self) -> None:
        """The library tells nothing of one that wants TLS and is spoken to without."""
        said = str(meaning(Clients(parse_address(f"kafka://{NOWHERE}")).trouble(), "look up requests"))
        assert said.startswith(f"Cannot look up requests; Kafka does not answer: {NOWHERE} says nothing in time")
        assert "TLS or a password" in said
