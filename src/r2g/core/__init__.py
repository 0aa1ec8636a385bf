"""What every other module may rely on: registries, slots, shared types."""
