"""The serving section of an environment: how much one server takes on, and how a challenger is tried."""

from __future__ import annotations

from pydantic import Field

from caudal.contract.values import Duration
from caudal.yaml_document import Section

STDOUT = "stdout"
"""What `prediction_log` says where lines go to standard output."""


class ChallengerTraffic(Section):
    """What a challenger does while there is one.

    Attributes:
        share: the share of keys, from 0 to 1, whose answer comes from the challenger. A key stays where it is
            as long as the challenger is the same, and when the share grows. With a share between 0 and 1 the trial
            is decided by what came of live answers.
        shadow: whether it also scores the rest; those scores are logged, and nobody is answered with them.
    """

    share: float = Field(default=0.0, ge=0, le=1)
    shadow: bool = True


class RateLimit(Section):
    """How many requests one client may send to one server; more are answered 429.

    Attributes:
        per_second: what a client may send for any length of time.
        burst: what it may send at once after a pause.
        forwarded: tell clients apart by the last address of X-Forwarded-For, which Cloud Run's front end writes.
            Off, by the connection's own address.
    """

    per_second: float = Field(gt=0)
    burst: int = Field(gt=0)
    forwarded: bool = False


class ServingSettings(Section):
    """How the server runs.

    Attributes:
        look_every: the promotion ledger's head is looked at during requests, at most this often.
        wait_after: a request that finds the last look older than this waits for the next one, so that a server
            that slept does not answer with a model that is long gone.
        challenger: what a challenger does.
        largest_body_bytes: a larger request is answered 413 as soon as that is known.
        largest_batch: rows that one request may hold.
        in_flight: requests that are worked on at a time; more are answered 503.
        request_within: a request whose body has not come whole within this time is answered 408.
        rate: limit for each client; none when absent.
        drain: how long requests in flight may go on once the server was told to stop.
        prediction_log: `stdout`, or the file to which predictions are appended, one JSON line each. The monitor
            reads them back from there: from the file, or from where a log sink takes the standard output.
    """

    look_every: Duration = Field(default="5s", validate_default=True)
    wait_after: Duration = Field(default="1m", validate_default=True)
    challenger: ChallengerTraffic = ChallengerTraffic()
    largest_body_bytes: int = Field(default=1_000_000, gt=0)
    largest_batch: int = Field(default=1000, gt=0)
    in_flight: int = Field(default=256, gt=0)
    request_within: Duration = Field(default="10s", validate_default=True)
    rate: RateLimit | None = None
    drain: Duration = Field(default="8s", validate_default=True)
    prediction_log: str = STDOUT
