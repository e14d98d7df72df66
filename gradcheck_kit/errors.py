"""The exceptions that users see. Every message is one sentence: what is wrong, where, and what to type next."""


class GradcheckKitError(Exception):
    """Base of all of them. The command line prints the message and exits 2: no verdict."""


class UsageError(GradcheckKitError):
    """An option, a rule selector or an argument that means nothing here."""


class TargetError(GradcheckKitError):
    """The TARGET does not load, is ambiguous, or is no model."""


class DataError(GradcheckKitError):
    """The data cannot be read, is empty, or does not fit the model."""


class ProbeError(GradcheckKitError):
    """The user's own code raised while the probe ran it: forward, loss, backward or optimizer step."""


class TraceError(GradcheckKitError):
    """A trace file that is damaged, truncated, foreign, or newer than this version."""


class SettingsError(GradcheckKitError):
    """A pyproject.toml that cannot be read, or that sets what there is not."""


class BaselineError(GradcheckKitError):
    """A baseline that is missing, damaged, foreign, or newer than this version."""


class PluginError(GradcheckKitError):
    """A plugin that does not load, or that registers something malformed; `plugin` is its name."""

    def __init__(self, message: str, plugin: str) -> None:
        super().__init__(message)
        self.plugin = plugin
