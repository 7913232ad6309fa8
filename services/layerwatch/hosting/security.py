"""How we prove who we are to Kafka, and it to us: TLS and SASL, for every client alike."""

from __future__ import annotations

import ssl
from typing import Any, NamedTuple

from layerwatch.hosting.settings import KafkaSettings
from layerwatch.schemas.errors import ConfigError


class Security(NamedTuple):
    """`context` is None without TLS, `username` and `password` are None without SASL."""

    protocol: str
    context: ssl.SSLContext | None
    mechanism: str
    username: str | None
    password: str | None

    def options(self) -> dict[str, Any]:
        """As kafka-python and aiokafka name them."""
        found: dict[str, Any] = {"security_protocol": self.protocol}
        if self.context is not None:
            found["ssl_context"] = self.context
        if self.username is not None:
            found |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return found


def security(kafka: KafkaSettings) -> Security:
    """From the settings; raises ConfigError where they do not suffice or a file cannot be used."""
    context = _context(kafka) if kafka.security.endswith("SSL") else None
    if not kafka.security.startswith("SASL"):
        return Security(kafka.security, context, kafka.sasl_mechanism, None, None)
    username, password = kafka.username, _password(kafka)
    if not username or not password:
        raise ConfigError(
            f"LAYERWATCH_KAFKA__SECURITY={kafka.security} needs LAYERWATCH_KAFKA__USERNAME,"
            " and LAYERWATCH_KAFKA__PASSWORD_FILE or LAYERWATCH_KAFKA__PASSWORD"
        )
    return Security(kafka.security, context, kafka.sasl_mechanism, username, password)


def _context(kafka: KafkaSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=kafka.ca_file)
    except OSError as error:  # ssl.SSLError too
        raise ConfigError(
            f"LAYERWATCH_KAFKA__CA_FILE {kafka.ca_file} cannot be used ({error}): it must be a PEM file"
        ) from error
    if kafka.cert_file is not None:
        try:
            context.load_cert_chain(kafka.cert_file, kafka.key_file)
        except OSError as error:
            raise ConfigError(
                f"LAYERWATCH_KAFKA__CERT_FILE {kafka.cert_file} and LAYERWATCH_KAFKA__KEY_FILE {kafka.key_file}"
                f" cannot be used ({error}): they must be PEM files that belong together, the key without a password"
            ) from error
    return context


def _password(kafka: KafkaSettings) -> str | None:
    if kafka.password_file is None:
        return kafka.password.get_secret_value() if kafka.password else None
    try:
        return kafka.password_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"LAYERWATCH_KAFKA__PASSWORD_FILE {kafka.password_file} cannot be read ({type(error).__name__}):"
            " mend the file or its rights"
        ) from error
