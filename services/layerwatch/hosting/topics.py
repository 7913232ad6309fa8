"""Creates and checks the topics that layerwatch.schemas.topics declares."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, TopicAlreadyExistsError

from layerwatch.hosting.kafka import admin
from layerwatch.hosting.kafka_types import Admin
from layerwatch.hosting.settings import Settings
from layerwatch.schemas.errors import Unavailable
from layerwatch.schemas.topics import TOPICS, Topic


def ensure(settings: Settings) -> list[str]:
    """Create the topics that are missing and return their names; what exists is left as it is.

    Raises Unavailable where there is no Kafka or it refuses.
    """
    with _admin(settings) as client:
        existing = set(client.list_topics())
        missing = [topic for topic in TOPICS if topic.name not in existing]
        created = [topic.name for topic in missing if _create(client, topic, settings)]
        client.wait_for_topics([topic.name for topic in TOPICS])
    return created


def check(settings: Settings) -> list[str]:
    """What is wrong with the topics, in words, each with its remedy; empty when all is well.

    Raises Unavailable where there is no Kafka.
    """
    return [problem for problems in inspect(settings).values() for problem in problems]


def inspect(settings: Settings) -> dict[str, list[str]]:
    """Like `check`, by topic: every declared topic is a key."""
    with _admin(settings) as client:
        existing = set(client.list_topics())
        names = [topic.name for topic in TOPICS if topic.name in existing]
        counts = {found["name"]: len(found["partitions"]) for found in client.describe_topics(names)}
        configs = _configs(client, names)
    return {topic.name: list(_problems(topic, settings, counts, configs)) for topic in TOPICS}


@contextmanager
def _admin(settings: Settings) -> Iterator[Admin]:
    with closing(admin(settings)) as client:
        try:
            yield client
        except KafkaError as error:
            raise Unavailable(
                f"Kafka at {settings.kafka.servers} did not answer ({error!r}): look at its log, then try again"
            ) from error


def _create(client: Admin, topic: Topic, settings: Settings) -> bool:
    """Whether it was us who created it."""
    wanted = {
        "num_partitions": topic.partitions(settings.kafka.partitions),
        "replication_factor": settings.kafka.replication,
        "configs": topic.config(),
    }
    try:
        client.create_topics({topic.name: wanted})
    except TopicAlreadyExistsError:
        return False  # another process was quicker
    except KafkaError as error:
        raise Unavailable(
            f"Kafka refused to create {topic.name} ({error}): LAYERWATCH_KAFKA__REPLICATION must not exceed "
            "the number of brokers, and the cluster must let this user create topics"
        ) from error
    return True


def _configs(client: Admin, names: list[str]) -> dict[str, dict[str, Any]]:
    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found: dict[str, dict[str, Any]] = client.describe_configs(resources, config_filter="all")["topic"]
    return found


def _problems(
    topic: Topic, settings: Settings, counts: dict[str, int], configs: dict[str, dict[str, Any]]
) -> list[str]:
    if topic.name not in counts:
        return [f"{topic.name} is missing: run `layerwatch topics`"]
    return [*_partition_problems(topic, settings, counts[topic.name]), *_config_problems(topic, configs)]


def _partition_problems(topic: Topic, settings: Settings, has: int) -> Iterator[str]:
    needs = topic.partitions(settings.kafka.partitions)
    if has == needs:
        return
    keep = "" if topic.catalogue else f"set LAYERWATCH_KAFKA__PARTITIONS={has} everywhere, or "
    yield (
        f"{topic.name} has {has} partitions instead of {needs}: {keep}stop everything, delete the topic "
        "(its records are lost) and run `layerwatch topics`"
    )


def _config_problems(topic: Topic, configs: dict[str, dict[str, Any]]) -> Iterator[str]:
    has = {name: entry["value"] for name, entry in configs[topic.name].items()}
    needs = topic.config()
    fits = {
        "cleanup.policy": has["cleanup.policy"] == needs["cleanup.policy"],
        "max.message.bytes": int(has["max.message.bytes"]) >= topic.max_message_bytes,
    }
    for name in (name for name, well in fits.items() if not well):
        yield (
            f"{topic.name} has {name}={has[name]} instead of {needs[name]}: run kafka-configs.sh --alter "
            f"--topic {topic.name} --add-config {name}={needs[name]}"
        )
