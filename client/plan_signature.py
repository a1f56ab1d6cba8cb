"""The coordinator's signature under a plan: by it a site knows that nobody else asks in the coordinator's name."""

from __future__ import annotations

from client.identity import Identity, has_signed
from client.plan import Plan
from client.secagg.agreement import digest

SIGNED = "signed"
"""The fact of a message that holds the signature of its plan, hexadecimal."""


def sign_plan(identity: Identity, plan: Plan) -> str:
    """Return a coordinator's signature under a plan, hexadecimal."""
    return identity.sign(_message(plan)).hex()


def is_signed(plan: Plan, signature: str, coordinator: str) -> bool:
    """Whether a signature is under that plan and by that coordinator's key, both hexadecimal."""
    try:
        return has_signed(bytes.fromhex(coordinator), bytes.fromhex(signature), _message(plan))
    except ValueError:
        return False


def _message(plan: Plan) -> bytes:
    return digest("fedfer plan", bytes.fromhex(plan.digest))
