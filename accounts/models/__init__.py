"""Who: the WhatsApp accounts we manage, and the programs that may use them."""

from accounts.models.account import Account, Desired
from accounts.models.api_key import ApiKey, Scope

__all__ = ["Account", "ApiKey", "Desired", "Scope"]
