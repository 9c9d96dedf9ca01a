"""The literature reproduced: tables as TOML and their runner."""
