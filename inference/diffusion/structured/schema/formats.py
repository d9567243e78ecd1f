"""Regexes of the supported string formats (RFC 3339, RFC 5321, RFC 9562), each in the one form that slots write."""

from __future__ import annotations

_YEAR_NOT_0 = "(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
_BY_4 = "(?:0[48]|[2468][048]|[13579][26])"
_LEAP_YEAR = f"(?:[0-9]{{2}}{_BY_4}|(?:[02468][48]|[2468]0|[13579][26])00)"
_DAY_OF_MONTH = (
    "(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])"
    "|(?:0[13-9]|1[0-2])-(?:29|30)"
    "|(?:0[13578]|1[02])-31)"
)
_DATE = f"(?:{_YEAR_NOT_0}-{_DAY_OF_MONTH}|{_LEAP_YEAR}-02-29)"
_CLOCK = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = f"{_CLOCK}:[0-5][0-9](?:Z|[+-]{_CLOCK})"
_LABEL = "[a-z0-9]+(?:-[a-z0-9]+)*"

FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "email": f"[a-z0-9]+(?:[._+-][a-z0-9]+)*@(?:{_LABEL}\\.)+[a-z]{{2,}}",
    "uuid": "[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}",
}
"""Format to regex. Times are whole seconds with a zone; e-mail addresses and uuids are
lower case, and addresses only as long as their slot and maxLength allow."""
