"""How well it went: pure functions over arrays."""
