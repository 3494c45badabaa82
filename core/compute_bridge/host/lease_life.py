"""What is done in each state of a lease, what is written before and after, and what a start does that finds it."""

from attrs import frozen

from compute_bridge.host.lease_state import LeaseState


@frozen
class Step:
    """One state of a lease.

    ``before`` is the event that stands in the journal before ``effect``, ``after`` the one that tells what came
    of it. ``once_by`` is what makes the effect happen once, however often it is asked for. ``at_start`` is what a
    start of the bridge does with a lease that it finds in this state.
    """

    before: str
    effect: str
    once_by: str
    after: str
    at_start: str


LIFE: dict[LeaseState, Step] = {
    LeaseState.GRANTED: Step(
        before="`granted`: the grant as it came",
        effect="waits for the envelope",
        once_by="the grant's id",
        after="`opened`, or `ended` where none comes or it does not open the commitments",
        at_start="waits for the envelope again",
    ),
    LeaseState.OPENED: Step(
        before="`opened`: the envelope, still sealed",
        effect="picks an offer",
        once_by="nothing is made yet",
        after="`provision-intended`, or `routed` with `ended` where no offer takes it",
        at_start="routes, unless the market has settled the grant meanwhile",
    ),
    LeaseState.PROVISIONING: Step(
        before="`provision-intended` with `terminate-intended`, in one write",
        effect="orders the machine",
        once_by="the token: a hash of grant, backend, region, zone, shape and attempt",
        after="`running`, or `attempt-failed`; the next attempt has another token",
        at_start="makes the same order under the same token, and so adopts what runs",
    ),
    LeaseState.RUNNING: Step(
        before="`running`: the machine as the backend told it",
        effect="seals the receipt",
        once_by="nothing has left yet",
        after="`delivered`, with the sealed bytes",
        at_start="seals the receipt and watches the machine",
    ),
    LeaseState.DELIVERED: Step(
        before="`delivered`, with the sealed bytes",
        effect="replies the receipt, watches and meters the machine",
        once_by="the receipt's bytes",
        after="`metered` now and then, `extended`, `released`, `noticed`; `ending` at last",
        at_start="replies the same bytes, counts on from what the backend has counted, and watches",
    ),
    LeaseState.ENDING: Step(
        before="`ending`: why; the duty stands since `terminate-intended`",
        effect="terminates the machine until the backend shows it gone",
        once_by="the instance's id: what is gone stays gone",
        after="`ended`: outcome, times and how well they are known",
        at_start="terminates until the backend shows it gone",
    ),
    LeaseState.ENDED: Step(
        before="`ended`",
        effect="signs the usage log",
        once_by="nothing has left yet",
        after="`logged`, with the signed bytes",
        at_start="signs the usage log",
    ),
    LeaseState.LOGGED: Step(
        before="`logged`, with the signed bytes",
        effect="sends the log, then claims",
        once_by="the grant's id; then grant, kind and sequence",
        after="`settled`",
        at_start="sends the same bytes in the order in which logs were kept, then claims",
    ),
    LeaseState.SETTLED: Step(
        before="`settled`", effect="nothing", once_by="a second apply says so", after="nothing", at_start="nothing"
    ),
}
"""Every state, in the order of a life."""
