"""A Headwater client: a user's first minutes, and what the platform makes of them."""

import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TypeVar
from uuid import uuid4

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from headwater.v1 import analytics_pb2, analytics_pb2_grpc, envelope_pb2, fraud_pb2, fraud_pb2_grpc
from headwater.v1 import user_actions_pb2 as actions_pb2
from headwater.v1 import user_actions_pb2_grpc as actions_pb2_grpc

T = TypeVar("T")

ACTIONS = 10
SECONDS = 10  # that a call may take, and that the consumers may need


def main() -> None:
    # every call that carries it belongs to one trace
    trace = secrets.token_hex(16)
    metadata = [("traceparent", f"00-{trace}-{secrets.token_hex(8)}-01")]
    print("trace      ", trace)
    call = {"metadata": metadata, "timeout": SECONDS}

    with grpc.insecure_channel(os.environ.get("HEADWATER_ADDRESS", "localhost:8000")) as channel:
        users = actions_pb2_grpc.UserActionsStub(channel)
        analytics = analytics_pb2_grpc.AnalyticsStub(channel)
        fraud = fraud_pb2_grpc.FraudStub(channel)

        account = {"email": f"{uuid4()}@example.com", "password": "correct horse"}
        device = actions_pb2.ActionContext(ip="198.51.100.7", user_agent="headwater-python")
        # the event id makes the call safe to repeat: a second one is answered as the first and writes nothing
        registration = actions_pb2.RegisterUserRequest(event_id=str(uuid4()), context=device, **account)
        user = users.RegisterUser(registration, **call).user_id
        print("registered ", user)
        login = users.Login(actions_pb2.LoginRequest(context=device, **account), **call)
        print("logged in  ", login.session_id)

        accepted = 0
        for answer in users.RecordActions(failed_logins(user), **call):
            # a bad item does not end the stream: its answer carries a status of its own
            if answer.HasField("status"):
                print(f"item {answer.index}:", *refusal(answer.status))
            else:
                accepted += 1
        print(f"recorded    {accepted} of {ACTIONS}")

        # the consumers follow the log: what was accepted is there in a moment
        day = analytics_pb2.GetDailyActiveUsersRequest(day=datetime.now(UTC).date().isoformat())
        active = until(lambda: analytics.GetDailyActiveUsers(day, **call).active_users)
        print(f"active      {active} on {day.day}")

        def profile() -> fraud_pb2.GetRiskProfileResponse | None:
            try:
                found = fraud.GetRiskProfile(fraud_pb2.GetRiskProfileRequest(user_id=user), **call)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND:  # none of the events has arrived yet
                    return None
                raise
            return found if found.score > 0 else None

        risk = until(profile)
        print(f"risk        {risk.score} {fraud_pb2.RiskLevel.Name(risk.level)} by {risk.matches[0].rule}")

        try:
            users.RegisterUser(actions_pb2.RegisterUserRequest(email="not an address", password="short"), **call)
        except grpc.RpcError as error:
            print("refused    ", "\n  ".join(refusal(rpc_status.from_call(error))))
        else:
            sys.exit("a bad email was accepted")


def failed_logins(user: str) -> Iterator[actions_pb2.RecordActionRequest]:
    """What a backend has seen that authenticates its users itself."""
    for _ in range(ACTIONS):
        payload = envelope_pb2.Payload(ip="203.0.113.9")
        yield actions_pb2.RecordActionRequest(
            event_id=str(uuid4()), event_type="user.login_failed", user_id=user, payload=payload
        )


def refusal(status: Status) -> Iterator[str]:
    """The details that an error of Headwater carries: the reason, and every bad field at once."""
    info, bad_request = ErrorInfo(), BadRequest()
    for detail in status.details:
        if detail.Unpack(info):
            yield info.reason
        elif detail.Unpack(bad_request):
            yield from (f"{bad.field} {bad.description}" for bad in bad_request.field_violations)


def until(ask: Callable[[], T | None]) -> T:
    deadline = time.monotonic() + SECONDS
    while not (answer := ask()):
        if time.monotonic() > deadline:
            sys.exit(f"not there after {SECONDS} s")
        time.sleep(0.05)
    return answer


if __name__ == "__main__":
    main()
