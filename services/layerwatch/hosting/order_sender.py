"""Gives orders to all processes through layerwatch.operations, and reads what was ordered."""

from __future__ import annotations

from contextlib import closing

from kafka import TopicPartition
from kafka.errors import KafkaError

from layerwatch.hosting import kafka
from layerwatch.hosting.settings import Settings
from layerwatch.schemas import cloudevents
from layerwatch.schemas.codec import encode_json
from layerwatch.schemas.errors import InvalidRecord, Unavailable
from layerwatch.schemas.operations import CE_TYPE, OPERATION_READER, Operation
from layerwatch.schemas.orders import Orders, validate
from layerwatch.schemas.topics import OPERATIONS

_ACK_TIMEOUT_S = 10.0


def send_order(settings: Settings, order: Operation) -> None:
    """Returns once Kafka has it. Raises InvalidRecord for an order that nobody could follow, Unavailable without Kafka."""
    validate(order)
    headers = cloudevents.headers(
        id=f"{order.id}-{order.revision}", type=CE_TYPE, source="/layerwatch/people", time=order.issued_at
    )
    producer = kafka.producer(settings)
    try:
        producer.send(OPERATIONS, encode_json(order), order.id.encode(), headers).get(_ACK_TIMEOUT_S)
    except KafkaError as error:
        raise Unavailable(
            f"Kafka did not take the order ({error}): see that it runs and `layerwatch topics` has created the topics"
        ) from error
    finally:
        kafka.abandon(producer)


def read_orders(settings: Settings) -> Orders:
    """All orders that were ever given and are still kept. Raises Unavailable without Kafka."""
    orders = Orders()
    with closing(kafka.consumer(settings)) as consumer:
        partition = TopicPartition(OPERATIONS, 0)
        try:
            consumer.assign([partition])
            consumer.seek_to_beginning(partition)
            end = consumer.end_offsets([partition])[partition]
            while (consumer.position(partition) or 0) < end:
                for records in consumer.poll(timeout_ms=200).values():
                    for record in records:
                        _take(orders, record.value)
        except KafkaError as error:
            raise Unavailable(
                f"the orders cannot be read ({error}): see that Kafka runs and `layerwatch topics` has created the topics"
            ) from error
    return orders


def _take(orders: Orders, value: bytes | None) -> None:
    try:
        orders.take(OPERATION_READER.decode(value or b""))
    except InvalidRecord:  # the processes have logged it
        return
