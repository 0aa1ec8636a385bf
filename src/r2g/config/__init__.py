"""From Hydra's tree to frozen, typed settings."""
