"""Kafka as others use it: by hand with kcat, over TLS with passwords, and on clusters of earlier days."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from classifiers.protocol import Images
from handoff.brokers.urls import open_broker
from handoff.contracts.batches import Batch, encode_batch
from handoff.contracts.envelope import parse_response
from handoff.contracts.errors import SettingsInvalid
from handoff.contracts.protocols import Limits, Message
from handoff.contracts.topology import Topology
from handoff.settings import Settings
from handoff.stores.urls import open_store
from tests.conformance.consumer import Consumer
from tests.conftest import started
from tests.e2e.conftest import Start
from tests.kafka_server import KafkaServer
from tests.servers import ServerAbsent

Sample = tuple[Images, list[str]]

CONTRACT = Path(__file__).parents[2] / "docs" / "CONTRACT.md"
SCRAM, PASSWORD = "SCRAM-SHA-256", "Sesam-öffne-dich"


def declared(url: str, topology: Topology | None = None) -> str:
    """Make what a topology names, or the default one; the same URL."""
    topology = topology or Topology()
    with closing(open_broker(url, topology)) as broker:
        broker.declare(topology)
    return url


def there_and_back(url: str) -> None:
    """Declare a topology of its own; publish a message, give it back once, ack it."""
    unique = uuid.uuid4().hex
    topology = Topology(requests_topic=f"requests-{unique}", requests_subscription=f"read-{unique}")
    declared(url, topology)
    with closing(open_broker(url, topology)) as broker:
        consumer = Consumer(broker.subscribe(topology.requests, Limits()))
        broker.publish(topology.requests_topic, Message(body=b"there")).result(timeout=30)
        (first,) = consumer.take()
        first.nack()
        (second,) = consumer.take()
        assert (second.message.body, second.attempt) == (b"there", 2)
        second.ack()


class TestByHand:
    """A stranger's client: the lines of docs/CONTRACT.md, word for word."""

    @pytest.fixture(params=["consumer-group", "share-group"])
    def settings(self, kafka_server: str, request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
        """The deployment of the page's example, under the default names."""
        url = declared(f"kafka://{kafka_server}?partitions=2&mode={request.param}")
        store = f"file://{tmp_path}/store-{request.param}"
        open_store(store).declare()
        return Settings(broker=url, store=store)

    def test_a_request_is_answered(
        self, settings: Settings, start_worker: Start, sample: Sample, tmp_path: Path
    ) -> None:
        """Published with kcat, read with kcat: headers and body are what the page says."""
        if not shutil.which("kcat"):
            absent(ServerAbsent("no kcat: apt-get install kcat"))
        images, labels = sample
        batch = Batch(images[:2], image_ids=("a", "b"), labels=tuple(labels[:2]))
        (tmp_path / "images.csv").write_bytes(encode_batch(batch, format="csv"))
        start_worker("w-1")
        script = next(
            block for block in re.findall(r"```sh\n(.*?)```", CONTRACT.read_text(), re.DOTALL) if "kcat" in block
        )
        identity = f"by-hand-{'share' if 'share' in settings.broker else 'group'}"
        told = f"KAFKA={settings.broker[8:].partition('?')[0]} STORE={settings.store[7:]} ID={identity}\n"
        found = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", told + script.partition("\n")[2]],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
        headers, _, body = found.stdout.splitlines()[-1].partition(" {")
        attributes = dict(entry.partition("=")[::2] for entry in headers.split(","))
        assert attributes["ce_type"] == "fashion.analysis.completed.v1"
        assert attributes["client_id"] == "by-hand"
        message = Message(body=("{" + body).encode(), attributes={"ce-type": attributes["ce_type"]})
        response = parse_response(message)
        assert (response.request_id, response.status, response.image_count) == (identity, "succeeded", 2)


class TestPasswords:
    """SASL_SSL: what Kafka's client is told in a file of properties."""

    @pytest.fixture(scope="class")
    def certificate(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A server's key and certificate in one PEM file, signed by itself."""
        folder = tmp_path_factory.mktemp("tls")
        key, certificate, both = (folder / name for name in ("key.pem", "certificate.pem", "both.pem"))
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
             "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
            check=True, capture_output=True,
        )  # fmt: skip
        both.write_text(key.read_text() + certificate.read_text())
        return certificate

    @pytest.fixture(scope="class")
    def address(self, certificate: Path) -> Iterator[str]:
        """A broker that wants TLS and a password."""
        login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
        settings = {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(certificate.with_name("both.pem")),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(certificate),
            "sasl.enabled.mechanisms": f"PLAIN,{SCRAM}",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": f'{login} username="node" password="x" user_node="x";',
            f"listener.name.sasl_ssl.{SCRAM.lower()}.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
        }
        scram = f"{SCRAM}=[name=fashion,password={PASSWORD}]"
        server = KafkaServer(
            protocol="SASL_SSL",
            settings=settings,
            format_with=["--feature", "share.version=1", "--add-scram", scram],
        )
        with started(lambda: server):
            yield server.address

    def properties(self, folder: Path, certificate: Path, password: str) -> Path:
        """The file that the URL names."""
        path = folder / "client.properties"
        path.write_text(
            f"# of the tests\nsecurity.protocol=SASL_SSL\nsasl.mechanism={SCRAM}\nssl.ca.location={certificate}\n"
            f"sasl.username=fashion\nsasl.password={password}\n",
            encoding="utf-8",
        )
        return path

    @pytest.mark.parametrize("mode", ["consumer-group", "share-group"])
    def test_messages_pass_with_the_right_one(self, address: str, certificate: Path, tmp_path: Path, mode: str) -> None:
        """Encrypted and authenticated: declared, published, delivered, acked."""
        path = self.properties(tmp_path, certificate, PASSWORD)
        there_and_back(f"kafka://{address}?mode={mode}&partitions=2&properties={path}")

    def test_the_wrong_one_is_refused_in_a_sentence(self, address: str, certificate: Path, tmp_path: Path) -> None:
        """Not as a broker that does not answer; and the password is not quoted."""
        path = self.properties(tmp_path, certificate, "guessed-it")
        with pytest.raises(SettingsInvalid, match=r"[Aa]uthentication") as refused:
            declared(f"kafka://{address}?properties={path}")
        assert "guessed-it" not in str(refused.value)


class TestEarlierClusters:
    """A cluster with neither KIP-848 nor share groups, as those before 4.0 are."""

    @pytest.fixture(scope="class")
    def address(self) -> Iterator[str]:
        """A broker with the features of one."""
        server = KafkaServer(format_with=["--feature", "share.version=0", "--feature", "group.version=0"])
        with started(lambda: server):
            yield server.address

    def test_groups_are_of_the_classic_protocol(self, address: str, caplog: pytest.LogCaptureFixture) -> None:
        """It works, and the log says which protocol and why."""
        with caplog.at_level(logging.INFO):
            there_and_back(f"kafka://{address}?partitions=2")
        assert "as a consumer group of the classic protocol, for the cluster has no newer one" in caplog.text

    def test_share_groups_are_refused_in_a_sentence(self, address: str) -> None:
        """What the cluster does not have is named, and what to leave out; on joining, or soon after."""
        url = declared(f"kafka://{address}?partitions=2").replace("?", "?mode=share-group&")
        with closing(open_broker(url, Topology())) as broker, pytest.raises(SettingsInvalid, match=r"share\.version=1"):
            next(iter(broker.subscribe(Topology().requests, Limits())))


def absent(reason: ServerAbsent) -> None:
    """Skip on a laptop, fail where CI promises it."""
    if os.environ.get("CI") == "true":
        pytest.fail(str(reason))
    pytest.skip(str(reason))
