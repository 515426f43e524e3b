"""Messages to people and machines about what happened: kept in the store, and delivered without holding anyone up."""

from endcap.messages.message import Message
from endcap.messages.messenger import Messenger

__all__ = ["Message", "Messenger"]
