"""AWS on loopback: which service a request is for, who sends it, and each service's own protocol."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import cbor2

from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.matter import Code, Refusal
from compute_bridge.testing.physics.wire import Cut, Request, Response
from compute_bridge_aws.testing.beside import Beside
from compute_bridge_aws.testing.ec2 import Ec2
from compute_bridge_aws.testing.iam import Access, require
from compute_bridge_aws.testing.json_shapes import Documents
from compute_bridge_aws.testing.refusal import AwsRefusal
from compute_bridge_aws.testing.shapes import Wire
from compute_bridge_aws.testing.signature import Key, Sender, account_of

_CHANGING = ("Run", "Terminate", "Create", "Authorize", "Revoke", "Delete")


class FakeAws:
    """One account. ``policy`` is what IAM allows; ``keys`` are its access keys, and those of others."""

    def __init__(self, physics: Physics, *, policy: Mapping[str, Any], keys: Mapping[str, Key]) -> None:
        self.physics = physics
        self.policy = policy
        self.keys = dict(keys)
        self.skew_ms = 0
        self.refused_next: list[str] = []
        """Codes with which the next calls of EC2 are refused, one each."""
        self.asked_of_iam: set[str] = set()
        """Every action that a call wanted."""
        self.ec2 = Ec2(physics, self._require)
        self.beside = Beside(physics, self._require)
        self._wires = {name: Wire(name) for name in ("ec2", "sts")}
        self._documents = {name: Documents(name) for name in ("pricing", "service-quotas", "cloudwatch")}

    def _require(self, accesses: list[Access]) -> None:
        self.asked_of_iam |= {access.action for access in accesses}
        require(self.policy, accesses)

    def serve(self, request: Request) -> Response:
        """Answer one request."""
        who = Sender.read(request) or Sender("", "", "")
        protocols: dict[str, Callable[[Request, Sender], Response]] = {
            "ec2": self._ec2,
            "sts": self._sts,
            "pricing": self._pricing,
            "servicequotas": self._quotas,
            "monitoring": self._metrics,
        }
        answer = protocols[who.service](request, who) if who.service in protocols else Response(403)
        moment = datetime.fromtimestamp((self.physics.now_ms() + self.skew_ms) / 1000, UTC)
        date = moment.strftime("%a, %d %b %Y %H:%M:%S GMT")
        return Response(answer.status, answer.body, {**answer.headers, "Date": date})

    def _admit(self, action: str, who: Sender, request: Request) -> str:
        try:
            self.physics.admit(action, changes=action.startswith(_CHANGING), place=who.region)
        except Refusal as refusal:
            if refusal.code is Code.DOWN:
                raise Cut from refusal
            raise AwsRefusal.of(refusal) from refusal
        return account_of(request, self.keys)

    def _refuse_once(self) -> None:
        if self.refused_next:
            raise AwsRefusal(self.refused_next.pop(0))

    # --- forms and XML --------------------------------------------------------------------------

    def _ec2(self, request: Request, who: Sender) -> Response:
        wire = self._wires["ec2"]
        try:
            action, asked = wire.request(request.body)
            self._admit(action, who, request)
            self._refuse_once()
            return _xml(200, wire.answer(action, self.ec2.call(action, asked, who.region)))
        except AwsRefusal as refusal:
            told = f"<Code>{refusal.code}</Code><Message>{refusal.message}</Message>"
            body = f"<Response><Errors><Error>{told}</Error></Errors><RequestID>r-0</RequestID></Response>"
            answer = _xml(refusal.status, body.encode())
            return Response(answer.status, answer.body, {**answer.headers, **refusal.headers})

    def _sts(self, request: Request, who: Sender) -> Response:
        wire = self._wires["sts"]
        try:
            action, _ = wire.request(request.body)
            account = self._admit(action, who, request)
            self.ec2.require_enabled(who.region)
            self._require([Access(f"sts:{action}", "*")])
            answer = {"Account": account, "Arn": f"arn:aws:iam::{account}:user/bridge", "UserId": "AIDAFAKE"}
            return _xml(200, wire.answer(action, answer))
        except AwsRefusal as refusal:
            code = {"AuthFailure": "InvalidClientTokenId", "RequestLimitExceeded": "Throttling"}.get(
                refusal.code, refusal.code
            )
            told = f"<Type>Sender</Type><Code>{code}</Code><Message>{refusal.message}</Message>"
            return _xml(
                403 if code == "InvalidClientTokenId" else 400,
                f"<ErrorResponse><Error>{told}</Error><RequestId>r-0</RequestId></ErrorResponse>".encode(),
            )

    # --- documents ------------------------------------------------------------------------------

    def _pricing(self, request: Request, who: Sender) -> Response:
        return self._json("pricing", request, who, self.beside.products)

    def _quotas(self, request: Request, who: Sender) -> Response:
        return self._json("service-quotas", request, who, lambda asked: self.beside.quotas(asked, who.region))

    def _json(
        self, service: str, request: Request, who: Sender, do: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> Response:
        action = request.headers.get("x-amz-target", "").rpartition(".")[2]
        documents = self._documents[service]
        try:
            asked = documents.request(action, json.loads(request.body))
            self._admit(action, who, request)
            return Response(200, json.dumps(documents.answer(action, do(asked)), default=datetime.timestamp).encode())
        except AwsRefusal as refusal:
            code = _document_code(refusal)
            return Response(400, json.dumps({"__type": code, "message": refusal.message}).encode())

    def _metrics(self, request: Request, who: Sender) -> Response:
        # Which protocol the SDK speaks to CloudWatch differs from version to version.
        if "cbor" not in request.headers.get("content-type", ""):
            return self._json("cloudwatch", request, who, self.beside.metrics)
        action = request.path.rpartition("/")[2]
        documents = self._documents["cloudwatch"]
        headers = {"smithy-protocol": "rpc-v2-cbor", "Content-Type": "application/cbor"}
        try:
            asked = documents.request(action, cbor2.loads(request.body))
            self._admit(action, who, request)
            answer = documents.answer(action, self.beside.metrics(asked))
            return Response(200, cbor2.dumps(answer, datetime_as_timestamp=True), headers)
        except AwsRefusal as refusal:
            told = {"__type": _document_code(refusal), "message": refusal.message}
            return Response(400, cbor2.dumps(told), headers)


def _document_code(refusal: AwsRefusal) -> str:
    words = {
        "AuthFailure": "UnrecognizedClientException",
        "RequestLimitExceeded": "ThrottlingException",
        "UnauthorizedOperation": "AccessDeniedException",
    }
    return words.get(refusal.code, refusal.code)


def _xml(status: int, body: bytes) -> Response:
    return Response(status, body, {"Content-Type": "text/xml;charset=UTF-8"})
