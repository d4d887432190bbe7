"""How a deployment fails.

HubError           the Hub is out of reach, or the Space does not come up; its text is one line
└── HubRefused     the token, the name or a value is wrong: whoever asked has to change something
"""


class HubError(Exception):
    """The Hub could not do what was asked."""


class HubRefused(HubError):
    """The Hub does not accept the token, the name or a value; nothing but a change of it helps."""
