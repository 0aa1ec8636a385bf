"""hydra/launcher=joblib and ray are our files: the plugins bring choices of the same names."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.plugins.search_path_plugin import SearchPathPlugin

_OURS = ("joblib", "ray")


class NamesAreOurs(SearchPathPlugin):
    """Hydra calls it once all plugins are there and nothing is composed yet."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:  # noqa: ARG002 - Hydra's signature
        """Take the plugins' choices away: Hydra would refuse each key of ours that their schema doesn't have."""
        launchers = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
        for name in _OURS:
            launchers.pop(f"{name}.yaml", None)
