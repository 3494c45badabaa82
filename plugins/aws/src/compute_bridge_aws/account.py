"""The door to one account: every call goes through here, and none before it is known whose account it is."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import anyio
from anyio import to_thread

from compute_bridge.cloud.calls import Calls
from compute_bridge.cloud.every import answers
from compute_bridge.ports.backend import BackendContext
from compute_bridge.ports.errors import BackendError, CredentialsError
from compute_bridge_aws.config import AwsConfig
from compute_bridge_aws.errors import MEANINGS
from compute_bridge_aws.sdk import Access, Sdk, told_by

T = TypeVar("T")


def code_of(error: BaseException) -> str:
    """Return AWS's code behind an error of ours, empty where there is none."""
    told = told_by(error.__cause__)
    return told.code if told is not None else ""


def read_access(context: BackendContext, config: AwsConfig) -> Access:
    """Read the secrets that the table names; blocks."""

    def secret(reference: str) -> str:
        return context.read_secret(reference).decode().strip() if reference else ""

    return Access(
        key_id=secret(config.access_key_id),
        secret=secret(config.secret_access_key),
        token=secret(config.session_token) or None,
        endpoint_url=config.endpoint_url or None,
        ca_bundle=config.ca_bundle or None,
        at_once=config.calls_at_once,
    )


class Account:
    """The calls of one backend; the account's identity is asked before the first of them, and never again."""

    def __init__(self, context: BackendContext, config: AwsConfig, sdk: Sdk) -> None:
        self.name = context.name
        self.config = config
        self.clock = context.clock
        self.sdk = sdk
        self._calls = Calls(self._translated, at_once=config.calls_at_once)
        self._proving = anyio.Lock()
        self._arn = ""

    @classmethod
    async def open(cls, context: BackendContext, config: AwsConfig) -> "Account":
        """Return the account, having asked AWS nothing yet."""
        access = await to_thread.run_sync(read_access, context, config)
        return cls(context, config, await to_thread.run_sync(Sdk, access))

    def _translated(self, doing: str, error: Exception) -> BackendError | None:
        told = told_by(error)
        if told is None:
            return None
        return MEANINGS.error(self.name, doing, told.code, retry_after_s=told.retry_after_s)

    async def read(self, doing: str, call: Callable[[], T]) -> T:
        """Return what a call tells that changes nothing.

        :raises BackendError: in place of the SDK's error.
        """
        await self.prove()
        return await self._calls.read(doing, call)

    async def change(self, doing: str, call: Callable[[], T]) -> T:
        """Return what a call tells that changes something; it is never abandoned.

        :raises BackendError: in place of the SDK's error.
        """
        await self.prove()
        return await self._calls.change(doing, call)

    async def read_anywhere(self, doing: str, call: Callable[[str], T]) -> T:
        """Return what a call tells that every region tells alike; see :meth:`read`.

        :raises BackendError: in place of the first region's error, if no region answers.
        """
        await self.prove()
        return await self._anywhere(doing, call)

    async def _anywhere(self, doing: str, call: Callable[[str], T]) -> T:
        # One that is dead or not enabled for the account must not hide the others, wherever the table names it.
        first, *others = (table.name for table in self.config.regions)

        async def read(region: str) -> T:
            return await self._calls.read(f"{doing} from {region}", partial(call, region))

        try:
            return await read(first)
        except BackendError:
            told, _ = await answers({region: partial(read, region) for region in others})
            if not told:
                raise
            return next(told[region] for region in others if region in told)

    async def ask_identity(self) -> dict[str, object]:
        """Return the identity behind the credentials, and the answer's headers, whether or not it is the pinned one.

        :raises BackendError: in place of the SDK's error.
        """
        return await self._anywhere("learn whose account this is", self.sdk.identity)

    async def prove(self) -> None:
        """Refuse to act under any account but the table's.

        :raises CredentialsError: if the credentials are of another.
        """
        if self._arn:
            return
        async with self._proving:
            if self._arn:
                return
            found = await self.ask_identity()
            self._require(str(found.get("Account", "")))
            self._arn = str(found.get("Arn", "?"))

    def _require(self, account: str) -> None:
        if account != self.config.account_id:
            raise CredentialsError(
                f"backend {self.name}: the credentials are of account {account}, and the table pins "
                f"{self.config.account_id}; nothing is done under another: change the credentials or account_id"
            )
