"""Slack: an incident is one message, with what follows in its thread, and marked when it is over."""

from __future__ import annotations

from typing import Any

from layerwatch.notify.incident import Notice
from layerwatch.notify.request import Answer, Later, Misconfigured, Refused, Request, check
from layerwatch.notify.story import Story

URL = "https://slack.com/api"

_HEADER_MOST, _SECTION_MOST = 150, 2900
_SIGNS = {"critical": ":red_circle:", "warning": ":large_orange_circle:", "resolved": ":white_check_mark:"}

#: What a person must mend: the token, its permissions, or the room.
_MISCONFIGURED = frozenset(
    [
        "invalid_auth",
        "not_authed",
        "account_inactive",
        "token_revoked",
        "token_expired",
        "no_permission",
        "missing_scope",
        "org_login_required",
        "ekm_access_denied",
        "access_denied",
        "channel_not_found",
        "not_in_channel",
        "is_archived",
        "restricted_action",
        "team_access_not_granted",
    ]
)
#: Of chat.update: a person has removed the message, or it may no longer be changed. There is nothing to mark then.
_NOTHING_TO_EDIT = frozenset(["message_not_found", "cant_update_message", "edit_window_closed"])
#: What passes.
_LATER = frozenset(
    ["ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"]
)


def requests(url: str, secret: str, room: str, notice: Notice, story: Story, ts: str | None) -> list[Request]:
    """To be sent in order. `ts` is of the incident's message, None where there is none yet.

    What may be sent twice unnoticed comes first: only the last one is a message of its own.
    """
    body = _message(room, notice, story)
    if ts is None:
        return [_call(url, secret, "chat.postMessage", body)]
    # chat.update wants the id of the channel, which chat.postMessage has told.
    channel, _, stamp = ts.rpartition("/")
    edit = _call(url, secret, "chat.update", body | {"channel": channel, "ts": stamp})
    is_loud = notice.event == "resolved" or notice.severity == "critical"
    reply = {"channel": channel, "thread_ts": stamp, "text": escape(story.title), "reply_broadcast": is_loud}
    return [edit, _call(url, secret, "chat.postMessage", reply)] if is_loud else [edit]


def judge(answer: Answer) -> None:
    """Raises what an answer means. Slack says most of it in the body of a 200."""
    check(answer)
    body = answer.json if isinstance(answer.json, dict) else {}
    if body.get("ok") is True:
        return
    error = str(body.get("error", "an answer that is not Slack's"))
    if error in _NOTHING_TO_EDIT:
        return
    if error in _LATER:
        raise Later(f"Slack says {error}")
    if error in _MISCONFIGURED or not body:
        raise Misconfigured(f"Slack says {error}")
    raise Refused(f"Slack says {error}")


def receipt(answer: Answer) -> str:
    """What later requests of the same incident need: channel and time stamp of the message."""
    return f"{answer.json['channel']}/{answer.json['ts']}"


def escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _call(url: str, secret: str, method: str, body: dict[str, Any]) -> Request:
    return Request(f"{url.rstrip('/')}/{method}", body, {"Authorization": f"Bearer {secret}"})


def _message(room: str, notice: Notice, story: Story) -> dict[str, Any]:
    sign = _SIGNS["resolved" if notice.event == "resolved" else notice.severity]
    facts = "\n".join(f"*{label}* {escape(text)}" for label, text in story.facts)
    return {
        "channel": room,
        "text": escape(story.title),  # what a phone's lock screen shows
        "unfurl_links": False,
        "blocks": [
            {
                "type": "header",
                "text": {"type": "plain_text", "emoji": True, "text": f"{sign} {story.title}"[:_HEADER_MOST]},
            },
            {"type": "section", "text": {"type": "mrkdwn", "text": facts[:_SECTION_MOST]}},
        ],
    }
