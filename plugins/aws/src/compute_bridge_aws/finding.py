"""What the doctor says of a question that failed."""

from compute_bridge.ports.doctor import Finding, Verdict
from compute_bridge.ports.errors import BackendError, CredentialsError
from compute_bridge_aws.account import code_of

_POLICY = "attach the policy that 'compute-bridge aws policy' prints"


def failed(check: str, error: BackendError) -> Finding:
    """Return a fault where AWS said no, and otherwise that nothing is known."""
    verdict = Verdict.UNKNOWN
    mend = ""
    if isinstance(error, CredentialsError):
        verdict, mend = Verdict.FAULT, _POLICY if check.startswith("permission") else "see the credentials"
    elif code_of(error).startswith(("Invalid", "Unsupported", "Missing")):
        verdict = Verdict.FAULT
    return Finding(check, verdict, str(error)[:500], mend)
