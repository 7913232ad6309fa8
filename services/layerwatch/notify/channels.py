"""The configured channels: what each sends for a notice, and which notices go where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from layerwatch.hosting.services import Channel, Services
from layerwatch.notify import alertmanager, pagerduty, slack, webhook
from layerwatch.notify.incident import Notice
from layerwatch.notify.request import Answer, Misconfigured, Request, check
from layerwatch.notify.story import Links, Story, tell
from layerwatch.schemas.alerts import SEVERITIES
from layerwatch.schemas.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Lane:
    """One address of one channel. Peers of a channel are lanes of their own: one that is away holds up no other."""

    name: str
    channel_name: str
    channel: Channel
    url: str

    def secret(self) -> str | None:
        """Read anew each time, so that a key can be changed without a restart. Raises Misconfigured."""
        try:
            return self.channel.secret()
        except ConfigError as error:
            raise Misconfigured(str(error)) from error


@dataclass(frozen=True, slots=True)
class Directory:
    """Channels and who listens on them, from services.toml. A service that names no channels is told on all."""

    services: Services
    history_url: str
    runbook_url: str | None
    resend_s: float

    def lanes(self) -> list[Lane]:
        return [lane for name, channel in self.services.channels.items() for lane in _lanes(name, channel)]

    def lanes_of(self, notice: Notice) -> list[str]:
        """Names of the lanes that a notice goes to. Its severity never falls, so who heard of it hears its end."""
        service = self.services.get(notice.service)
        named = service.channels if "channels" in service.model_fields_set else self.services.channels
        return [
            lane.name
            for lane in self.lanes()
            if lane.channel_name in named
            and SEVERITIES.index(notice.severity) >= SEVERITIES.index(lane.channel.severity)
        ]

    def owner(self, service: str) -> str:
        return self.services.get(service).owner

    def story(self, notice: Notice) -> Story:
        return tell(notice, Links(self.history_url, self.runbook_url, self.owner(notice.service)))

    def requests(
        self, lane: Lane, secret: str | None, notice: Notice, receipt: str | None, now_s: float
    ) -> Sequence[Request]:
        """What tells a notice on a lane, to be sent in order."""
        story, owner = self.story(notice), self.owner(notice.service)
        match lane.channel.kind:
            case "alertmanager":
                alerts = alertmanager.alerts(notice, story, owner, now_s, self.resend_s)
                return [alertmanager.request(lane.url, secret, alerts)]
            case "pagerduty":
                return [pagerduty.request(lane.url, secret or "", notice, story)]
            case "slack":
                return slack.requests(lane.url, secret or "", lane.channel.room, notice, story, receipt)
            case "webhook":
                return [webhook.request(lane.url, secret, lane.channel_name, owner, notice, story)]

    def resend(
        self, lane: Lane, secret: str | None, notices: Sequence[Notice], alive: bool, now_s: float
    ) -> Request:
        """What keeps alerts firing at an Alertmanager, and the watchdog while we are alive."""
        found = [alertmanager.watchdog(now_s, self.resend_s)] if alive else []
        for notice in notices:
            if lane.name in self.lanes_of(notice):
                owner = self.owner(notice.service)
                found += alertmanager.alerts(notice, self.story(notice), owner, now_s, self.resend_s)
        return alertmanager.request(lane.url, secret, found)


def judge(lane: Lane, answer: Answer) -> None:
    """Raises Undelivered unless the other side has taken it."""
    match lane.channel.kind:
        case "pagerduty":
            pagerduty.judge(answer)
        case "slack":
            slack.judge(answer)
        case _:
            check(answer)


def receipt(lane: Lane, first: Answer) -> str | None:
    """What later notices of the incident need, from the answer to a first one."""
    return slack.receipt(first) if lane.channel.kind == "slack" else None


def _lanes(name: str, channel: Channel) -> list[Lane]:
    own = {"pagerduty": pagerduty.URL, "slack": slack.URL}
    urls = channel.urls or [own[channel.kind]]
    if len(urls) == 1:
        return [Lane(name, name, channel, urls[0])]
    # A path may hold a secret, and a lane's name is a label: of two addresses at one host the second gets a number.
    hosts = [urlsplit(url).netloc.rpartition("@")[2] for url in urls]
    places = [
        f"#{hosts[:index].count(host) + 1}" if host in hosts[:index] else ""
        for index, host in enumerate(hosts)
    ]
    return [
        Lane(f"{name}/{host}{place}", name, channel, url)
        for url, host, place in zip(urls, hosts, places, strict=True)
    ]
